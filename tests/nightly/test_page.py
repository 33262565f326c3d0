"""The page of `keras-srt serve`: its files, and in a browser what a person does with it."""

import base64
import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers import ROOT, clean_environment
from page_server import PAGE, PageServer
from PIL import Image

from keras_srt.core import images
from keras_srt.core.sample_images import SampleImages, write_samples

SCRIPTS = sorted(PAGE.glob("*.js"))
VOID = {"meta", "link", "input", "img", "br"}
CONTROLS = {"input", "select", "button"}


class Document(HTMLParser):
    """The page's elements as (tag, attributes, text), with a check that each one is closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "attributes": dict(attrs), "text": ""}
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {tag} {attrs}"
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag):
        assert self._open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data.strip()

    def all(self, *tags):
        return [element for element in self.elements if element["tag"] in tags]

    def values(self, attribute):
        return [e["attributes"][attribute] for e in self.elements if attribute in e["attributes"]]


@pytest.fixture(scope="module")
def document():
    return Document((PAGE / "index.html").read_text(encoding="utf-8"))


def test_the_page_needs_no_inline_code_and_no_other_host(document):
    for script in document.all("script"):
        assert script["text"] == ""
        assert script["attributes"]["src"].startswith("/static/")
    assert document.all("style") == []
    names = {name for element in document.elements for name in element["attributes"]}
    assert not [name for name in names if name.startswith("on") or name == "style"]
    for link in document.values("src") + document.values("href"):
        assert link == "data:," or (PAGE / link.removeprefix("/static/")).is_file()


@pytest.mark.parametrize("file", sorted(PAGE.iterdir()), ids=lambda file: file.name)
def test_no_file_of_the_page_names_another_host(file):
    text = file.read_text(encoding="utf-8").replace('"http://www.w3.org/2000/svg"', "")
    assert not re.findall(r"""https?:|wss?:|["'(]//\w|@import|eval\(|innerHTML""", text)


def test_every_id_is_there_once_and_what_names_one_finds_it(document):
    ids = document.values("id")
    assert len(ids) == len(set(ids))
    assert set(document.values("for")) <= set(ids)
    assert set(" ".join(document.values("aria-labelledby")).split()) <= set(ids)
    for script in ("app.js", "attack_card.js"):
        used = set(re.findall(r'\$\("([\w-]+)"\)', (PAGE / script).read_text(encoding="utf-8")))
        assert used
        assert used <= set(ids)
    panel = set(re.findall(r'#find\("([\w-]+)"\)', (PAGE / "panel.js").read_text(encoding="utf-8")))
    assert panel | {f"{name}-2" for name in panel} <= set(ids)


def test_every_control_and_picture_has_a_name(document):
    labeled = {label["attributes"]["for"] for label in document.all("label") if label["text"]}
    for control in document.all(*CONTROLS):
        assert control["text"] or control["attributes"].get("id") in labeled, control
    for picture in document.all("img", "canvas"):
        assert picture["attributes"].get("alt") or picture["attributes"].get("aria-label")
    assert document.all("html")[0]["attributes"]["lang"] == "en"
    assert "polite" in document.values("aria-live")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_import_what_is_there(script):
    text = script.read_text(encoding="utf-8")
    for names, file in re.findall(r"import \{([^}]+)\} from \"\./([\w.]+)\"", text):
        exported = re.findall(
            r"^export (?:async )?(?:function|class|const) (\w+)",
            (PAGE / file).read_text(encoding="utf-8"),
            re.MULTILINE,
        )
        assert {name.strip() for name in names.split(",") if name.strip()} <= set(exported)


def test_the_page_states_the_limits_that_the_server_has(document):
    script = (PAGE / "image_file.js").read_text(encoding="utf-8")
    assert "export const MAX_BYTES = 16 * 2 ** 20;" in script
    assert "export const MAX_PIXELS = 2 ** 24;" in script
    assert (images.MAX_BYTES, images.MAX_PIXELS) == (16 * 2**20, 2**24)
    drop = next(e for e in document.elements if e["attributes"].get("id") == "drop")
    assert f"at most {images.MAX_BYTES // 2**20} MiB" in drop["text"]


def themes():
    """The colors of the light theme and of the dark one, by name."""
    css = (PAGE / "style.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colors = r"--([\w-]+): (#\w+);"
    return [dict(re.findall(colors, light)), dict(re.findall(colors, dark))]


def luminance(color):
    digits = color.removeprefix("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    values = np.array([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_text_stands_out_from_its_ground_as_wcag_asks(theme):
    assert contrast("#000", "#fff") == pytest.approx(21)
    grounds = [
        *(("text", g) for g in ("ground", "card", "flipped-ground")),
        *(("soft", g) for g in ("ground", "card")),
        *((c, "card") for c in ("kept", "flipped")),
        ("on-accent", "accent"),
    ]
    assert contrast(theme["second"], theme["card"]) >= 3
    too_faint = {pair for pair in grounds if contrast(*(theme[name] for name in pair)) < 4.5}
    assert not too_faint
    assert contrast(theme["accent"], theme["card"]) >= 3


# In a browser.

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs chromium and chromedriver (apt: chromium-driver)"
)
WAIT = 15  # seconds


def open_browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=1200,1000",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


class Person:
    """What a person does with the page and sees on it."""

    def __init__(self, driver):
        self.driver = driver

    def goes_to(self, url):
        self.driver.get("about:blank")  # else another #model alone would load nothing
        self.driver.get(url)

    def finds_no_fault(self):
        """The console tells of no error, such as a violated policy; a missing server is none."""
        errors = [entry["message"] for entry in self.driver.get_log("browser")]
        assert [error for error in errors if "Failed to load resource" not in error] == []

    def find(self, name):
        return self.driver.find_element("id", name)

    def text(self, name):
        return self.find(name).text

    def until(self, condition):
        end = time.monotonic() + WAIT
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("it did not come true; message: " + self.text("message"))
            time.sleep(0.05)

    def choose(self, file):
        self.find("file").send_keys(str(file))

    def answer(self):
        """The answer, once it is there and not an old one."""
        self.until(lambda: self.find("work").get_attribute("aria-busy") == "false")
        return self.text("class")

    def slide(self, name, value):
        self.driver.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
            self.find(name),
            value,
        )

    def sees(self, name, text):
        self.until(lambda: text in self.text(name))

    def emulate(self, command, **arguments):
        self.driver.execute_cdp_cmd(f"Emulation.{command}", arguments)


@pytest.fixture(scope="module")
def stand_in():
    server = PageServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser():
    driver = open_browser()
    yield driver
    driver.quit()


@pytest.fixture
def person(browser, stand_in):
    stand_in.start()
    stand_in.reset()
    someone = Person(browser)
    someone.goes_to(stand_in.url)
    someone.sees("version", "version 1")
    yield someone
    someone.finds_no_fault()


def encoded(image, kind="PNG", **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def spot(size=(64, 64), at=(44, 24), mode="RGB"):
    """Black, with a bright rectangle whose upper left corner is at `at`: to the right, a bit up."""
    image = Image.new(mode, size)
    image.paste((250, 240, 200), (*at, at[0] + 14, at[1] + 10))
    return image


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "spot.png"
    path.write_bytes(encoded(spot()))
    return path


def read_by_server(path):
    return images.decode_image(path.read_bytes(), (16, 16, 1))


def assert_sends(person, stand_in, expected):
    """Waits for the newest picture at the server to be the expected one, to what JSON rounds."""

    def came():
        signature, sent = stand_in.asked[-1]
        return signature == "image" and np.allclose(sent, expected, atol=1e-4)

    with contextlib.suppress(TimeoutError):
        person.until(came)
    np.testing.assert_allclose(stand_in.asked[-1][1], expected, atol=1e-4)


READ_CANVAS = """
const { width, height } = arguments[0];
return Array.from(arguments[0].getContext("2d").getImageData(0, 0, width, height).data);
"""


def in_browser(test):
    return needs_browser(test)


@in_browser
def test_a_chosen_file_is_sent_as_it_is_and_answered(person, picture, stand_in):
    person.choose(picture)
    assert person.answer() == "right"
    assert stand_in.asked == [("serving_default", picture.read_bytes())]
    assert re.fullmatch(r"\d+ ms there and back", person.text("time"))
    rows = [row.text.split("\n") for row in person.driver.find_elements("css selector", "#bars li")]
    assert [name for name, _ in rows] == ["right", "up", "left", "down"]
    assert rows[0][1] == person.text("score")
    assert sum(float(number.rstrip("%")) for _, number in rows) == pytest.approx(100, abs=0.3)
    assert person.text("file-name") == "spot.png"
    assert person.text("size") == "16 × 16, gray"


@in_browser
@pytest.mark.parametrize(("degrees", "turns", "name"), [(90, 1, "up"), (-90, -1, "down")])
def test_the_answer_follows_the_rotation(person, picture, stand_in, degrees, turns, name):
    person.choose(picture)
    person.answer()
    person.slide("degrees", degrees)
    person.sees("class", name)
    person.sees("verdict", "Flipped: without changes it is right, ")
    # np.rot90 turns counterclockwise, too.
    assert_sends(person, stand_in, np.rot90(read_by_server(picture), turns))
    person.find("reset").click()
    person.sees("class", "right")
    assert len(stand_in.asked) == 2  # the first answer is remembered


@in_browser
def test_shifts_are_in_pixels_of_the_model_with_black_behind(person, picture, stand_in):
    person.choose(picture)
    person.answer()
    person.slide("right", -2)
    person.slide("down", 3)
    expected = np.zeros((16, 16, 1))
    expected[3:, :-2] = read_by_server(picture)[:-3, 2:]
    assert_sends(person, stand_in, expected)


@in_browser
def test_rotation_and_shift_are_those_that_the_package_trains_on(person, picture, stand_in):
    import tensorflow as tf

    from keras_srt.neighborhoods.geometry import rotate_and_translate

    person.choose(picture)
    person.answer()
    person.slide("degrees", 30)
    person.slide("right", 2)
    person.slide("down", -1)
    moved = rotate_and_translate(read_by_server(picture)[None], tf.constant([[30.0, 2.0, -1.0]]))
    assert_sends(person, stand_in, moved[0].numpy())


@in_browser
def test_noise_stays_in_its_range_and_is_the_same_each_time(person, picture, stand_in):
    person.choose(picture)
    person.answer()
    person.slide("noise", 0.3)
    person.sees("verdict", "without changes")
    person.find("reset").click()
    person.sees("verdict", "Move a slider")
    person.slide("noise", 0.3)
    person.sees("verdict", "without changes")
    _, (_, first), (_, second) = stand_in.asked
    np.testing.assert_array_equal(first, second)
    difference = first - read_by_server(picture)
    assert np.abs(difference).max() <= 0.3 + 1e-4
    assert np.abs(difference).max() > 0.25
    assert first.min() >= 0
    assert first.max() <= 1
    assert abs(np.mean(difference[read_by_server(picture) == 0]) - 0.075) < 0.02  # half clipped


@in_browser
def test_inverting_comes_before_everything_else(person, picture, stand_in):
    person.choose(picture)
    person.answer()
    person.find("invert").click()
    person.sees("class", "left")
    assert_sends(person, stand_in, 1 - read_by_server(picture))
    person.find("invert").click()
    person.sees("class", "right")


@in_browser
def test_a_color_model_gets_three_channels(person, picture, stand_in):
    from selenium.webdriver.support.ui import Select

    person.choose(picture)
    person.answer()
    Select(person.find("model")).select_by_visible_text("wheel")
    person.sees("size", "18 × 12, color")
    assert person.driver.current_url.endswith("#model=wheel")
    person.answer()
    person.slide("right", 1)
    expected = np.zeros((12, 18, 3))
    original = images.decode_image(picture.read_bytes(), (12, 18, 3))
    expected[:, 1:] = original[:, :-1]
    assert_sends(person, stand_in, expected)


@in_browser
def test_of_many_classes_the_likely_come_first_and_a_key_scrolls_to_the_rest(
    person, picture, stand_in
):
    person.goes_to(f"{stand_in.url}#model=wheel")
    person.choose(picture)
    name = person.answer()
    rows = person.driver.find_elements("css selector", "#bars li")
    numbers = [float(row.text.split("\n")[1].rstrip("%")) for row in rows]
    assert len(rows) == 24
    assert rows[0].text.startswith(name)
    assert numbers == sorted(numbers, reverse=True)
    bars = person.find("bars")
    assert bars.get_property("scrollHeight") > bars.get_property("clientHeight")
    assert bars.get_property("tabIndex") == 0
    person.slide("degrees", 180)  # the order stays, so that bars don't jump about
    person.sees("verdict", "Flipped")
    again = [row.text.split("\n")[0] for row in rows]
    assert again[0] == name


@in_browser
def test_a_model_without_samples_and_attacks_shows_none(person, picture):
    person.choose(picture)
    person.answer()
    for name in ("samples", "attack", "side-2", "bars-2", "name"):
        assert not person.find(name).is_displayed()


@in_browser
def test_sample_images_are_tried_as_files_are(person, picture, stand_in):
    samples = {"right": picture.read_bytes(), "up": encoded(spot(at=(25, 4)))}
    stand_in.samples = samples
    person.goes_to(stand_in.url)
    person.sees("version", "version 1")
    buttons = person.driver.find_elements("css selector", ".sample")
    pictures = person.driver.find_elements("css selector", ".sample img")
    alts = [shown.get_attribute("alt") for shown in pictures]
    assert alts == ["Sample image: right", "Sample image: up"]
    person.until(lambda: all(shown.get_property("naturalWidth") == 64 for shown in pictures))
    for button, name in zip(buttons, samples, strict=True):
        button.click()
        person.sees("file-name", f"{name} (sample)")
        assert person.answer() == name
        assert stand_in.asked[-1] == ("serving_default", samples[name])


@in_browser
def test_an_attack_is_shown_with_its_magnified_change(person, picture, stand_in):
    stand_in.attack_queries = 50
    person.goes_to(stand_in.url)
    person.choose(picture)
    person.answer()
    person.slide("degrees", 90)
    person.sees("class", "up")
    person.slide("epsilon", 0.2)
    assert person.text("attack-queries") == "50"
    person.find("attack-start").click()
    person.sees("attack-result", "Flipped to down by ± 0.20, found with 7 tries.")
    ((model, sent, epsilon),) = stand_in.attacked
    assert (model, epsilon) == ("compass", 0.2)
    np.testing.assert_allclose(sent, np.rot90(read_by_server(picture)), atol=1e-4)
    changed = np.clip(sent[::-1, ::-1], sent - 0.2, sent + 0.2)
    for name, expected in (
        ("attack-before", sent),
        ("attack-change", 0.5 + 2.5 * (changed - sent)),
        ("attack-after", changed),
    ):
        shown = person.driver.execute_script(READ_CANVAS, person.find(name))
        np.testing.assert_allclose(
            np.reshape(shown, (16, 16, 4))[..., 0], 255 * expected[..., 0], atol=0.51
        )
    assert person.text("attack-change-text") == "magnified ×2.5"
    assert person.text("attack-before-text") == f"up, {person.text('score')}"
    assert person.text("attack-after-text").startswith("down, ")
    person.slide("degrees", 80)  # the attack was on another image
    person.until(lambda: not person.find("attack-pictures").is_displayed())
    assert person.text("attack-result") == ""


@in_browser
def test_an_attack_without_success_and_a_busy_server_are_explained(person, picture, stand_in):
    stand_in.attack_queries, stand_in.flips = 50, False
    person.goes_to(stand_in.url)
    person.choose(picture)
    person.answer()
    person.find("attack-start").click()
    person.sees("attack-result", "No change of ± 0.10 found with 50 tries.")
    assert not person.find("attack-pictures").is_displayed()
    stand_in.busy = True
    person.find("attack-start").click()
    person.sees("attack-result", "the queue is full.")
    assert person.find("attack-start").is_enabled()
    assert person.text("message") == ""


@in_browser
def test_two_models_answer_side_by_side_for_the_same_image(person, picture, stand_in):
    from selenium.webdriver.support.ui import Select

    stand_in.attack_queries = 50
    person.goes_to(stand_in.url)
    person.choose(picture)
    person.answer()
    Select(person.find("second")).select_by_visible_text("wheel")
    person.sees("version-2", "version 1")
    assert person.driver.current_url.endswith("#model=compass&second=wheel")
    person.answer()
    assert (person.text("name"), person.text("class")) == ("compass", "right")
    assert (person.text("name-2"), person.text("class-2")) == ("wheel", "15 degrees")
    assert len(person.driver.find_elements("css selector", "#bars-2 li")) == 24
    person.slide("degrees", 90)
    person.sees("class", "up")
    person.sees("verdict-2", "Flipped: without changes it is 15 degrees, ")
    # Shifts are in pixels of the first model, of 16 × 16; the second has 12 × 18.
    person.slide("degrees", 0)
    person.slide("right", 4)
    expected = np.zeros((12, 18, 3))
    original = images.decode_image(picture.read_bytes(), (12, 18, 3))
    expected[:, 5:] = (original[:, :-5] + original[:, 1:-4]) / 2  # 4.5 pixels
    expected[:, 4] = original[:, 0] / 2

    def came():
        return any(
            data.shape == expected.shape and np.allclose(data, expected, atol=1e-4)
            for signature, data in stand_in.asked
            if signature == "image"
        )

    person.until(came)
    person.find("sweep-start").click()
    person.sees("sweep-figure", "compass: Still right from ")
    assert "wheel: Not 15 degrees even without a rotation." in person.text("sweep-figure")
    assert "Probability of the answer" in person.text("sweep-figure")
    circles = person.driver.find_elements("css selector", "#sweep-figure circle")
    assert len(circles) == 2 * 37
    Select(person.find("model")).select_by_visible_text("wheel")
    person.until(lambda: not person.find("side-2").is_displayed())  # not twice the same model
    assert person.answer() == "0 degrees"
    assert [option.text for option in Select(person.find("second")).options] == [
        "no other",
        "compass",
    ]


@in_browser
def test_a_link_opens_a_model(person, stand_in):
    person.goes_to(f"{stand_in.url}#model=wheel")
    person.until(lambda: person.find("model").get_attribute("value") == "wheel")
    assert person.find("model").get_attribute("value") == "wheel"


@in_browser
def test_a_model_that_hides_its_size_answers_files_but_no_changes(person, picture, stand_in):
    stand_in.says_size = False
    person.goes_to(stand_in.url)
    person.choose(picture)
    assert person.answer() == "right"
    assert person.find("no-size").is_displayed()
    for name in ("degrees", "right", "down", "noise", "invert"):
        assert not person.find(name).is_enabled()
    assert not person.find("seen").is_displayed()
    assert not person.find("sweep-start").is_displayed()


@in_browser
def test_one_request_at_a_time_and_the_newest_wins(person, picture, stand_in):
    person.choose(picture)
    person.answer()
    stand_in.delay = 0.3
    for degrees in range(5, 95, 5):
        person.slide("degrees", degrees)
        person.until(lambda: f"{degrees}°" in person.text("degrees-value"))  # noqa: B023
    assert_sends(person, stand_in, np.rot90(read_by_server(picture)))
    person.sees("class", "up")
    assert stand_in.most_at_once == 1
    assert len(stand_in.asked) < 12


@in_browser
def test_all_rotations_are_shown_as_a_chart(person, picture, stand_in):
    person.choose(picture)
    person.answer()
    person.find("sweep-start").click()
    person.sees("sweep-figure", "Still right from ")
    person.sees("sweep-figure", "With no shift and no noise.")
    texts = [
        text.text for text in person.driver.find_elements("css selector", "#sweep-figure text")
    ]
    assert texts[-2:] == ["Rotation (positive: counterclockwise)", "Probability of right"]
    circles = person.driver.find_elements("css selector", "#sweep-figure circle")
    kinds = [circle.get_attribute("class") for circle in circles]
    assert len(kinds) == 37
    assert kinds[18] == "kept"
    assert kinds[18 + 9] == kinds[0] == "flipped"
    assert f"at {kinds.count('kept')} of 37 angles" in person.text("sweep-figure")
    person.slide("right", 1)  # the chart was for another image
    person.until(lambda: not person.find("sweep-figure").is_displayed())
    person.slide("noise", 0.1)
    person.find("sweep-start").click()
    person.sees("sweep-figure", "With shift 1 px right, 0 px down and noise ± 0.10.")


NOT_IMAGES = {
    "notes.txt": (b"hello", "notes.txt is neither PNG nor JPEG"),
    "empty.png": (b"", "empty.png is neither PNG nor JPEG"),
    "photo.webp": (encoded(spot(), "WEBP"), "photo.webp is neither PNG nor JPEG"),
    "cut.png": (encoded(spot())[:60], "can't be read"),
    "head.jpg": (b"\xff\xd8\xff\xe0" + bytes(40), "can't be read"),
    "huge.png": (b"\x89PNG\r\n\x1a\n" + bytes(2**24), "huge.png has 16.0 MiB; allowed: at most 16"),
    "wide.png": (encoded(Image.new("1", (5000, 4000))), "wide.png has 20.0 megapixels"),
}


@in_browser
@pytest.mark.parametrize("name", NOT_IMAGES)
def test_a_file_that_cannot_be_used_is_explained_and_the_previous_image_stays(
    person, picture, tmp_path, name
):
    content, text = NOT_IMAGES[name]
    (tmp_path / name).write_bytes(content)
    person.choose(picture)
    person.answer()
    person.slide("degrees", 90)
    person.sees("class", "up")
    person.choose(tmp_path / name)
    person.sees("message", text)
    assert person.answer() == "up"
    assert person.text("file-name") == "spot.png"
    assert text in person.text("message")
    person.slide("degrees", -90)
    person.sees("class", "down")
    assert person.text("message") == ""


@in_browser
def test_a_bad_first_file_leaves_the_page_empty(person, tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"hello")
    person.choose(tmp_path / "notes.txt")
    person.sees("message", "notes.txt is neither PNG nor JPEG")
    assert not person.find("work").is_displayed()


@in_browser
def test_a_file_that_only_the_server_refuses_leaves_the_previous_image(
    person, picture, tmp_path, stand_in
):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(encoded(spot(at=(25, 4))))
    stand_in.unreadable = damaged.read_bytes()
    for previous in (None, picture):
        if previous is not None:
            person.choose(previous)
            person.answer()
            person.slide("degrees", 90)
            person.sees("class", "up")
        person.choose(damaged)
        person.sees("message", "The server can't read damaged.png: it may be damaged.")
        assert person.find("work").is_displayed() == (previous is not None)
    assert person.answer() == "up"
    assert person.text("degrees-value") == "90° ↺"
    assert person.text("file-name") == "spot.png"
    assert "damaged.png" in person.text("message")


@in_browser
def test_a_server_that_is_gone_is_said_and_its_return_noticed(person, picture, stand_in):
    person.choose(picture)
    person.answer()
    stand_in.stop()
    person.slide("degrees", 90)
    person.sees("message", "The server can't be reached.")
    assert person.find("work").get_attribute("aria-busy") == "true"
    stand_in.start()
    person.until(lambda: person.text("message") == "")
    assert person.answer() == "up"
    announcement = person.find("announcement")
    person.until(lambda: announcement.get_property("textContent").startswith("up"))


@in_browser
def test_the_end_and_the_return_of_an_idle_server_are_noticed(person, stand_in):
    stand_in.stop()
    person.sees("message", "The server can't be reached.")
    assert "The server can't be reached." in person.text("message")
    stand_in.start()
    person.until(lambda: person.text("message") == "")
    assert person.text("message") == ""


@in_browser
def test_a_busy_server_is_asked_again(person, picture, stand_in):
    stand_in.busy = True
    person.choose(picture)
    person.sees("message", "(503): “the queue is full.” Trying again in 1 s.")
    stand_in.busy = False
    assert person.answer() == "right"
    assert person.text("message") == ""


LISTEN = """
window.said = [];
const note = () => said.push(arguments[0].textContent);
new MutationObserver(note).observe(arguments[0], { childList: true });
"""


@in_browser
def test_a_new_version_takes_over_without_a_word(person, picture, stand_in):
    person.choose(picture)
    person.answer()
    person.driver.execute_script(LISTEN, person.find("message"))
    stand_in.version = 2
    person.slide("degrees", 90)
    person.sees("version", "version 2")
    person.sees("class", "up")
    assert person.driver.execute_script("return said") == []


def with_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@in_browser
def test_a_photo_is_turned_upright_and_sent_as_seen(person, tmp_path, stand_in):
    lying = tmp_path / "phone.jpg"  # 6: turn by a quarter, clockwise, to see it upright
    lying.write_bytes(encoded(spot(), "JPEG", quality=95, exif=with_orientation(6)))
    person.choose(lying)
    assert person.answer() == "down"
    assert person.find("redrawn").is_displayed()
    lying.write_bytes(encoded(spot(), "JPEG", exif=with_orientation(1)))
    person.choose(lying)
    person.until(lambda: person.text("class") == "right")
    assert not person.find("redrawn").is_displayed()
    assert stand_in.asked[-1] == ("serving_default", lying.read_bytes())


@in_browser
def test_what_is_transparent_is_sent_white_as_seen(person, tmp_path, stand_in):
    path = tmp_path / "clear.png"
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 16, 32))
    path.write_bytes(encoded(image))
    person.choose(path)
    assert person.answer() == "right"
    sent = images.decode_image(stand_in.asked[-1][1], (16, 16, 1))
    np.testing.assert_array_equal(sent[:, [0, 15], 0], [[0, 1]] * 16)


@in_browser
def test_the_camera_gives_an_image(person, stand_in):
    person.find("camera").click()
    person.until(lambda: person.find("camera-video").get_property("videoWidth"))
    person.find("camera-take").click()
    person.answer()
    assert person.text("file-name") == "Camera picture"
    width, height = Image.open(io.BytesIO(stand_in.asked[0][1])).size
    assert width == height
    assert not person.find("camera-dialog").is_displayed()


@in_browser
def test_the_camera_can_be_declined(person):
    from selenium.webdriver.common.keys import Keys

    for decline in (
        lambda: person.find("camera-cancel").click(),
        lambda: person.driver.switch_to.active_element.send_keys(Keys.ESCAPE),
    ):
        person.find("camera").click()
        person.until(lambda: person.find("camera-video").get_property("videoWidth"))
        decline()
        person.until(lambda: not person.find("camera-dialog").is_displayed())
    assert not person.find("work").is_displayed()


HAND_OVER = """
const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], "spot.png"));
document.body.dispatchEvent(arguments[1] === "drop"
  ? new DragEvent("drop", { dataTransfer: data, bubbles: true })
  : new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
"""


@in_browser
@pytest.mark.parametrize("way", ["drop", "paste"])
def test_an_image_can_be_handed_over(person, picture, way):
    person.driver.execute_script(HAND_OVER, base64.b64encode(picture.read_bytes()).decode(), way)
    assert person.answer() == "right"


@in_browser
def test_everything_is_reached_and_worked_by_keyboard(person, picture, stand_in):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys):
        for key in keys:
            ActionChains(person.driver).send_keys(key).perform()

    def focused():
        return person.driver.switch_to.active_element.get_attribute("id")

    stand_in.samples, stand_in.attack_queries = {"right": picture.read_bytes()}, 50
    person.goes_to(stand_in.url)
    person.choose(picture)  # the chooser itself is the system's
    person.answer()
    person.driver.execute_script("document.activeElement.blur()")
    reached = []
    sliders = ["degrees", "right", "down", "noise"]
    order = ["model", "second", "file", "camera", "", *sliders, "invert", "reset", "sweep-start"]
    order += ["epsilon", "attack-start"]  # the element without an id is the sample image
    for _ in order:
        press(Keys.TAB)
        reached.append(focused())
    assert reached == order
    press(Keys.ENTER)
    person.sees("attack-result", "Flipped to left by ± 0.10")
    person.driver.execute_script("arguments[0].focus()", person.find("epsilon"))
    press(Keys.ARROW_RIGHT)
    person.sees("epsilon-value", "± 0.11 (28 of 255)")
    person.driver.execute_script("arguments[0].focus()", person.find("sweep-start"))
    press(Keys.ENTER)
    person.sees("sweep-figure", "Still right")
    person.driver.execute_script("arguments[0].focus()", person.find("degrees"))
    press(Keys.HOME)
    person.sees("degrees-value", "−180° ↻")
    person.sees("class", "left")
    press(Keys.ARROW_RIGHT)
    person.sees("degrees-value", "−179° ↻")
    person.sees("verdict", "Flipped")
    person.until(lambda: person.find("announcement").get_property("textContent").startswith("left"))


@in_browser
@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_it_without_scrolling_sideways(person, picture, stand_in, width):
    stand_in.samples, stand_in.attack_queries = {"right": picture.read_bytes()}, 50
    size = {"width": width, "height": 640, "deviceScaleFactor": 2, "mobile": True}
    person.emulate("setDeviceMetricsOverride", **size)
    person.emulate("setTouchEmulationEnabled", enabled=True)
    try:
        person.goes_to(f"{stand_in.url}#model=compass&second=wheel")
        person.choose(picture)
        person.answer()
        person.find("sweep-start").click()
        person.sees("sweep-figure", "Still right")
        person.find("attack-start").click()
        person.sees("attack-result", "Flipped to left")
        script = "return [document.documentElement.scrollWidth, window.innerWidth]"
        scroll, inner = person.driver.execute_script(script)
        assert scroll <= inner == width
        controls = ("camera", "reset", "sweep-start", "attack-start")
        for name in (*controls, "model", "second", "degrees", "noise", "epsilon"):
            assert person.find(name).size["height"] >= 44, name
        for label in person.driver.find_elements("css selector", ".button, .check, .sample"):
            assert label.size["height"] >= 44
        # The answer stays in sight while the last slider is moved.
        person.driver.execute_script("document.getElementById('noise').scrollIntoView()")
        top = "return document.getElementById('class').getBoundingClientRect().top"
        assert 0 <= person.driver.execute_script(top) < 100
    finally:
        person.emulate("setTouchEmulationEnabled", enabled=False)
        person.emulate("clearDeviceMetricsOverride")


@in_browser
def test_the_system_chooses_theme_and_motion(person, picture):
    def style(selector, name):
        script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        return person.driver.execute_script(script, selector, name)

    person.choose(picture)
    person.answer()
    seen = []
    for theme, motion in (("light", "no-preference"), ("dark", "reduce")):
        features = [
            {"name": "prefers-color-scheme", "value": theme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]
        person.emulate("setEmulatedMedia", features=features)
        seen.append((style("body", "backgroundColor"), style(".bar", "transitionDuration")))
    person.emulate("setEmulatedMedia", features=[])
    assert seen == [("rgb(245, 246, 248)", "0.12s"), ("rgb(19, 22, 26)", "0s")]


@in_browser
def test_nothing_is_fetched_from_another_host(person, picture, stand_in):
    person.choose(picture)
    person.answer()
    person.slide("noise", 0.2)
    person.sees("verdict", "without changes")
    script = "return JSON.stringify(performance.getEntriesByType('resource'))"
    names = [entry["name"] for entry in json.loads(person.driver.execute_script(script))]
    assert f"{stand_in.url}static/app.js" in names
    assert [name for name in names if not name.startswith((stand_in.url, "blob:", "data:"))] == []


SUMMARY = """
const [points, done] = arguments;
import("/static/view.js").then((view) => done(view.sweepSummary(points, "7")));
"""


@in_browser
@pytest.mark.parametrize(
    ("kept", "text"),
    [
        ([1, 0, 1, 1, 0], "Still 7 from 0° to 90°, and at 3 of 5 angles in all."),
        ([1, 1, 1, 1, 1], "Still 7 from −180° to 180°, and at 5 of 5 angles in all."),
        ([1, 1, 0, 1, 1], "Not 7 even without a rotation."),
    ],
)
def test_the_chart_is_told_in_words(person, kept, text):
    degrees = range(-180, 181, 90)
    points = [{"degrees": d, "kept": bool(k)} for d, k in zip(degrees, kept, strict=True)]
    assert person.driver.execute_async_script(SUMMARY, points) == text


def publish_shades(folder, version):
    """Publishes, as `keras-srt export` does, a model that tells dark and light images apart."""
    from keras_srt.core.tensorflow import keras
    from keras_srt.exporters.savedmodel import export_savedmodel

    image = keras.Input((8, 8, 1))
    brightness = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, keras.layers.Dense(2)(brightness))
    model.set_weights([np.float32([[-20, 20]]), np.float32([10, -10])])
    samples = np.linspace(0, 1, 4 * 64, dtype=np.float32).reshape(4, 8, 8, 1)
    export_savedmodel(model, ["dark", "light"], folder, version, samples)
    level = np.full((1, 8, 8, 1), 150, np.uint8)  # light; dark below 127.5
    write_samples(folder / str(version), SampleImages(level, ["light"]))


@contextlib.contextmanager
def serve(*folders):
    """`keras-srt serve` in a process of its own; gives its address."""
    command = [sys.executable, "-m", "keras_srt", "serve", "--port", "0", "--model", *folders]
    environment = clean_environment(PYTHONUNBUFFERED="1")
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        cwd=ROOT,
    ) as process:
        try:
            yield next(m[0] for line in process.stdout if (m := re.match(r"http://[\w.:]+/", line)))
        finally:
            process.terminate()


@in_browser
def test_the_page_works_with_the_real_server_and_a_published_model(browser, tmp_path):
    publish_shades(tmp_path / "shades", 1)
    light = tmp_path / "light.png"
    light.write_bytes(encoded(Image.new("L", (20, 30), 250)))
    person = Person(browser)
    with serve(tmp_path / "shades") as url:
        person.goes_to(url)
        person.choose(light)
        assert person.answer() == "light"
        assert person.text("size") == "8 × 8, gray"
        for name in ("right", "down"):  # 3 of 8 pixels each: a mean of 0.98 falls to 0.38
            person.slide(name, 3)
        person.sees("verdict", "Flipped: without changes it is light")
        assert person.text("class") == "dark"
        person.find("sweep-start").click()
        person.sees("sweep-figure", "Not light even without a rotation.")
        person.driver.find_element("css selector", ".sample").click()
        person.sees("file-name", "light (sample)")
        assert person.answer() == "light"
        person.find("attack-start").click()
        person.sees("attack-result", "Flipped to dark by ± 0.10, found with ")
        assert person.text("attack-after-text").startswith("dark, ")
        person.slide("epsilon", 0.01)
        person.find("attack-start").click()
        person.sees("attack-result", "No change of ± 0.01 found with 500 tries.")
        person.choose(light)
        person.sees("file-name", "light.png")
        publish_shades(tmp_path / "shades", 2)
        person.sees("version", "version 2")
        person.sees("class", "light")
        assert person.text("message") == ""
    person.sees("message", "The server can't be reached.")
    person.finds_no_fault()
