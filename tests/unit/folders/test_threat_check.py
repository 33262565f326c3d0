"""The check of a threat on a briefly trained standard model."""

import numpy as np
import pytest
from PIL import Image

from keras_srt.data import Folder
from keras_srt.folders import threat_check
from keras_srt.folders.network_choice import Candidate
from keras_srt.folders.starting_config import starting_config
from keras_srt.folders.summary import FolderSummary
from keras_srt.folders.threat_check import ThreatCheck, check_threat

SMALL = Candidate({"name": "small_cnn", "width": 2, "dropout": 0.0}, 28, 16)


def check(tmp_path, brightness, epsilon, seconds=1000.0, step_seconds=0.01):
    """Check a threat on 2 classes of 30 noisy images of different brightness."""
    generator = np.random.default_rng(0)
    for name, level in zip(("dark", "light"), brightness, strict=True):
        (tmp_path / name).mkdir(exist_ok=True)
        for number in range(30):
            pixels = level + generator.integers(-1, 2, (28, 28))
            Image.fromarray(np.uint8(pixels)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "dark/broken.png").write_bytes(b"")
    seen = FolderSummary(61, 0, ("dark", "light"), 28, 1, 0, 61)
    source = Folder(labeled=str(tmp_path))
    content = starting_config("a", source, seen, SMALL, 100, epsilon)
    before = sorted(tmp_path.rglob("*"))
    found = check_threat(content, seen.dataset_info(source, 28), seconds, step_seconds)
    assert sorted(tmp_path.rglob("*")) == before
    return found


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(threat_check, "_FEWEST_STEPS", 40)
    monkeypatch.setattr(threat_check, "_PASSES", 1)


def test_a_threat_that_breaks_a_standard_model_is_a_real_one(tmp_path):
    found = check(tmp_path, (120, 135), "40/255")
    assert found.steps == 40
    assert len(found.clean) == 12  # a fifth of 60
    assert found.clean.mean() > 0.9
    assert list(found.kept) == ["40/255"]
    assert not found.kept["40/255"].any()
    assert "keeps 0% (of 100% clean) under this threat (n=12, PGD-20, after 40 steps): the" in (
        found.describe()
    )


def test_a_weak_threat_is_a_warning_with_a_stronger_one(tmp_path):
    found = check(tmp_path, (60, 200), 0.001)
    assert list(found.kept) == ["0.001", "0.002", "0.004"]
    assert all((kept == found.clean).all() for kept in found.kept.values())
    assert found.describe().startswith("warning: a standard model keeps 100% (of 100% clean)")
    assert found.describe().endswith("which is weak; robust training may gain little")


def test_the_time_limits_the_steps(tmp_path):
    found = check(tmp_path, (120, 135), "1/255", seconds=1.0, step_seconds=10.0)
    assert (found.steps, found.short) == (1, True)
    assert not check(tmp_path, (120, 135), "1/255", seconds=5000.0).short


def test_a_folder_of_unreadable_images_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(Exception, match="init: only 0 labeled images can be read; allowed: sev"):
        threat_check._read(Folder(labeled=str(tmp_path)), np.inf)


def shares(kept):
    return np.concatenate([np.ones(kept, bool), np.zeros(100 - kept, bool)])


@pytest.mark.parametrize(
    ("clean", "kept", "text"),
    [
        (91, {"0.1": 12}, "check     a standard model keeps 12% (of 91% clean) under this threat "
            "(n=100, PGD-20, after 300 steps): the threat is a real one"),
        (90, {"0.1": 45}, "check     a standard model keeps 45% (of 90% clean) under this threat "
            "(n=100, PGD-20, after 300 steps): the threat is a real one"),
        (90, {"4/255": 70, "8/255": 50, "16/255": 20}, "warning: a standard model keeps 70% (of "
            "90% clean) under this threat (n=100, PGD-20, after 300 steps), which is weak; under "
            "16/255 it keeps 20%: try --epsilon 16/255"),
        (55, {"0.1": 0}, "check     no answer: after 300 steps a standard model is right for 55% "
            "of 100 images, not significantly more than if it always gave the most frequent class "
            "(50%); leave the check out with --no-check"),
    ],
)  # fmt: skip
def test_the_result_in_words(clean, kept, text):
    attacked = {epsilon: shares(share) for epsilon, share in kept.items()}
    assert ThreatCheck(shares(clean), attacked, 0.5, 300).describe() == text


def test_one_step_is_too_short_a_training():
    text = ThreatCheck(shares(3), {}, 0.23, 1, short=True).describe()
    assert "after 1 step a standard" in text
    assert text.endswith("(23%); give more --time, or leave the check out with --no-check")
