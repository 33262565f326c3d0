"""The deployment table and its section on the page."""

from html.parser import HTMLParser

from deployment_sample import DEPLOYMENT, MODELS, result_of

from keras_srt import report as reports
from keras_srt.report.deployment_section import NOTE, deployment_html


def test_the_table_has_a_line_for_each_model():
    lines = reports.deployment_table(DEPLOYMENT).splitlines()
    assert lines[0] == (
        "Exported version 3: 100 test images; batch size 1 on 1 CPU thread (tflite-runtime)"
    )
    table = lines[2:8]
    assert len({len(line) for line in table}) == 1
    assert table[2].split()[:7] == ["Keras", "-", "-", "-", "-", "-", "95.00"]
    low, high = (f"{100 * bound:.2f}" for bound in result_of(0.4)["ci95"])
    file = ["int8", "123.5", "0.42", "1.26", "99.50", "3.3e-02", "94.00"]
    assert table[5].split() == [*file, "40.00", f"[{low},", f"{high}]"]
    assert [line for line in lines if line.startswith("warning: int8 lost accuracy (pgd)")]
    assert " ".join(lines).endswith(NOTE)
    assert max(map(len, lines)) <= 100
    assert all(line.isascii() for line in lines)


def test_the_page_has_a_column_for_each_attack():
    class Cells(HTMLParser):
        rows, warnings = [], 0

        def handle_starttag(self, tag, attributes):
            self.rows += [[]] if tag == "tr" else []
            self.warnings += ("class", "reduced") in attributes

        def handle_data(self, text):
            if self.rows:
                self.rows[-1].append(text)

    parser = Cells()
    parser.feed(deployment_html(DEPLOYMENT))
    header, keras, *_, int8 = parser.rows
    assert header[4:] == ["clean %", "fgsm %", "pgd %", "worst case %"]
    assert keras[:8] == ["Keras", *"---", "95.00", "80.00", "75.00", "75.00"]
    assert int8[:6] == ["int8", "123.5 kB", "0.42", "p99 1.26", "99.50", "3.3e-02"]
    assert int8[6:10] == ["94.00", "78.00", "40.00", "40.00"]
    assert parser.warnings == len(DEPLOYMENT["warnings"]) == 2


def test_names_are_escaped_on_the_page():
    attack = {"name": "<b>", **result_of(0.5)}
    models = [entry | {"attacks": [attack]} for entry in MODELS]
    html = deployment_html(DEPLOYMENT | {"models": models, "warnings": ["<script>"]})
    assert "<b>" not in html
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
