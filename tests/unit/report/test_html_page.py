"""The HTML report."""

import json
import re
from html.parser import HTMLParser

import pytest
from report_samples import MASKING, NOTE, REPORT, VICTIM, changed, make_examples

from keras_srt import report as reports


class Page(HTMLParser):
    """What a page holds: its tags, where they point, texts, and whether tags are closed."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def text(self, tag):
        return [data for where, data in self.texts if where == tag]

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def page_of(report, figures, folder):
    path = reports.write_html(report, figures, folder / "report.html")
    text = path.read_text("utf-8")
    page = Page(text)
    assert page.open == []
    return page, text


def written_figures(folder):
    return reports.write_figures(REPORT, None, make_examples(1, 3), "abc", folder)


def test_page_holds_name_numbers_and_settings(tmp_path):
    page, _ = page_of(REPORT, [], tmp_path)
    assert page.text("title") == page.text("h1") == ["mnist_srt"]
    cells = page.text("td")
    assert cells[:4] == ["97.12", "[96.77, 97.43]", "10,000", "-"]
    assert "80.11" in cells
    assert "0.1832" in page.text("dd")
    assert json.loads("".join(page.text("pre"))) == REPORT


def test_page_shows_masking_checks_and_warnings_of_an_external_model(tmp_path):
    page, _ = page_of(changed(masking=MASKING, victim=VICTIM), [], tmp_path)
    assert len(page.text("dt")[-3:]) == 3
    assert "Square of 100 queries takes it <to> 3%" in page.text("dd")
    assert {"it is slow", "linf eps 0.3, 100 images"} <= set(page.text("p"))


def test_needs_nothing_from_outside(tmp_path):
    written = written_figures(tmp_path)
    page, text = page_of(REPORT, written, tmp_path)
    assert not re.search(r"https?://|url\(|@import", text)
    assert not {"script", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attrs in page.tags:
        for key in ("src", "href"):
            assert attrs.get(key, "data:").startswith("data:")


def test_every_string_is_escaped(tmp_path):
    evil = '<script>alert("1")</script>\'"&'

    def poison(value):
        if isinstance(value, dict):
            return {key: poison(item) for key, item in value.items()} | {evil: evil}
        if isinstance(value, list):
            return [poison(item) for item in value]
        return evil if isinstance(value, str) else value

    poisoned = {**poison(REPORT), "reduced": evil}
    poisoned |= {"masking": poison(MASKING), "victim": poison(VICTIM)}
    page, text = page_of(poisoned, [], tmp_path)
    assert "<script" not in text.lower()
    assert page.text("h1") == [evil]
    more = {"masking": MASKING, "victim": VICTIM}
    clean_page, _ = page_of(changed(reduced=NOTE, **more), [], tmp_path)
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in clean_page.tags}
    assert {key for _, attrs in page.tags for key in attrs} == {
        key for _, attrs in clean_page.tags for key in attrs
    }


@pytest.mark.parametrize("name", ["$body $title ${style}", "{body}", "100%s", "\udcff"])
def test_odd_names(name, tmp_path):
    page, _ = page_of(changed(name=name), [], tmp_path)
    assert page.text("h1") == [name.replace("\udcff", "?")]


def test_figures_are_inside_with_alt_texts(tmp_path):
    written = written_figures(tmp_path)
    page, _ = page_of(REPORT, written, tmp_path)
    images = page.all("img")
    assert len(images) == 2
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)
    assert all(image["alt"] for image in images)
    assert "pgd 90.12%" in images[0]["alt"]


def test_reduced_run_says_so_beside_all_numbers(tmp_path):
    page, _ = page_of(changed(reduced=NOTE), [], tmp_path)
    assert NOTE in "".join(page.text("p"))
    assert NOTE in "".join(page.text("caption"))
