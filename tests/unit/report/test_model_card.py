"""The model card."""

import pytest
from report_samples import MASKING, NOTE, REPORT, changed

from keras_srt.report import write_card
from keras_srt.report.model_card import plain


def card(report, folder):
    return write_card(report, folder / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_card_holds_the_numbers(tmp_path):
    text = card(REPORT, tmp_path)
    assert text.startswith("# Model card: mnist_srt\n")
    assert "| pgd | linf eps 0.3, 40 steps, 2 restarts, step 0.01 | 90.12 |" in text
    assert "| worst case | per image, over pgd, gridadv | 80.11 |" in text
    assert "Reduced" not in text


def test_card_warns_of_reduced_runs_and_gradient_masking(tmp_path):
    text = card(changed(masking=MASKING, reduced=NOTE), tmp_path)
    assert f"**Reduced run:** {NOTE}" in text
    assert "Warning, gradient masking: Square of 100 queries takes it \\<to\\> 3%." in text


def test_weakest_classes_come_first(tmp_path):
    classes = [
        {
            "name": name,
            "n": n,
            "clean": {"accuracy": 0.9, "ci95": [0.8, 0.95], "n": n},
            "worst_case": {"accuracy": share, "ci95": [0.1, 0.9], "n": n},
        }
        for name, n, share in (("cat|s", 10, 0.7), ("dog", 12, 0.2))
    ] + [{"name": "empty", "n": 0}]
    text = card(changed(classes=classes), tmp_path)
    rows = [line for line in text.splitlines() if "90.00" in line]
    assert rows == [
        "| dog | 90.00 | 20.00 | \\[10.00, 90.00\\] | 12 |",
        "| cat\\|s | 90.00 | 70.00 | \\[10.00, 90.00\\] | 10 |",
    ]
    assert "into 3 classes: cat\\|s, dog, empty" in text


def test_card_repeats_the_command_if_the_report_has_it(tmp_path):
    environment = {
        "python": "3.11",
        "platform": "Linux",
        "cores": 2,
        "devices": ["CPU x"],
        "packages": {"numpy": "1.26.4"},
        "command": ["train.py", "--config", "a b.json"],
    }
    assert "    python train.py --config 'a b.json'" in card(
        changed(environment=environment), tmp_path
    )
    assert "train.py" not in card(REPORT, tmp_path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a_b", "a_b"), ("_a_", "\\_a\\_"), ("<script>", "\\<script\\>"), ("a\n# b", "a \\# b")],
)
def test_plain_escapes_markdown(text, shown):
    assert plain(text) == shown
