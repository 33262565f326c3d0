"""The documentation: its links resolve, its commands parse, the code that it names exists."""

import ast
import importlib.util
import re
import shlex
import sys
import types

import numpy as np
import pytest
import yaml
from helpers import ROOT

from keras_srt.cli import main
from keras_srt.core.tensorflow import tf
from keras_srt.evaluation.runner import evaluate_robustness

DOCS = ROOT / "docs"
PATENT = (DOCS / "patent.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`((?:keras_srt|tests)/[\w./]+)(?:::(\w+))?`", PATENT)
PAGES = sorted(DOCS.rglob("*.md"))
ELSEWHERE = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
ELSEWHERE += ["deploy/README.md", "device/README.md", "benchmarks/README.md"]
RESULTS = sorted((DOCS / "results").rglob("*.json"))
TEXTS = [ROOT / name for name in ELSEWHERE] + PAGES


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site():
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def anchors_of(text):
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"\s+", "-", heading) for heading in words}


def names_in(path):
    """What a Python file defines at its top."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if hasattr(node, "name")}


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED)))
def test_code_and_tests_that_the_patent_page_names_exist(path, name):
    assert (ROOT / path).exists()
    if name:
        assert name in names_in(ROOT / path), f"{path} has no {name}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(path):
    text = path.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?://)([^)\s#]*)#?([^)\s]*)\)", text):
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), target
        if anchor:
            assert anchor in anchors_of(there.read_text(encoding="utf-8")), f"{target}#{anchor}"


def commands_of(text):
    """The arguments of each of the package's commands in a page's blocks of shell."""
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", text, flags=re.DOTALL):
        for line in re.split(r"\n|&&|;", block.replace("\\\n", " ")):
            found = re.match(r" *(?:\w+=\S+ +)*(?:keras-srt|python (train)\.py) +(.*)", line)
            if found:
                yield [*filter(None, [found[1]]), *shlex.split(found[2], comments=True)]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_parse(path):
    for words in commands_of(path.read_text(encoding="utf-8")):
        options = main.make_parser().parse_args(words)  # SystemExit for an unknown option
        assert (
            options.module
            is main.COMMANDS[" ".join(words[:2] if words[0] == "data" else words[:1])]
        )


def test_commands_are_found_and_wrong_ones_do_not_parse():
    commands = list(commands_of((ROOT / "README.md").read_text(encoding="utf-8")))
    assert ["train", "--config", "digits_pixel.json"] in commands
    assert {words[0] for words in commands} >= {
        "init",
        "data",
        "train",
        "info",
        "evaluate",
        "serve",
    }
    with pytest.raises(SystemExit):
        main.make_parser().parse_args(["train", "--no-such-option"])


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_results_name_no_path_of_the_machine(path):
    assert re.findall(r'"/[^"]+/[^"]*"', path.read_text(encoding="utf-8")) == []


def test_links_of_the_repository_become_links_of_the_site(hooks):
    known = {"index.md", "a.md", "results/README.md", "contributing.md"}
    for page, text, wanted in (
        ("index.md", "[a](docs/a.md#b)", "[a](a.md#b)"),
        ("index.md", "![p](docs/results/p.png)", "!`p`"),
        ("index.md", "[r](docs/results)", "[r](results/README.md)"),
        ("results/README.md", "[a](../a.md)", "[a](../a.md)"),
        ("a.md", "[c](../CONTRIBUTING.md)", "[c](contributing.md)"),
        ("a.md", "[s](../setup.py) [t](#t) [w](https://x.org)", "`s` [t](#t) [w](https://x.org)"),
    ):
        assert hooks.relink(text, page, known) == wanted


def test_every_page_is_in_the_navigation_once(hooks, site):
    config = types.SimpleNamespace(nav=site["nav"])
    named = set(hooks.pages_of(site["nav"]))
    there = {str(path.relative_to(DOCS)) for path in PAGES} | set(hooks.ELSEWHERE.values())
    assert named <= there
    nav = list(hooks.pages_of(hooks.on_config(config).nav))
    assert len(nav) == len(set(nav))
    assert set(nav) == there | set(hooks.reference())


def test_the_reference_has_a_page_for_each_subpackage(hooks):
    text = "".join(hooks.reference().values())
    for path in (ROOT / "keras_srt").glob("*.py"):
        if not path.stem.startswith("_"):
            assert f"::: keras_srt.{path.stem}\n" in text
    for path in (ROOT / "keras_srt").glob("*/__init__.py"):
        assert (
            f"::: keras_srt.{path.parent.name}\n"
            in hooks.reference()[f"reference/{path.parent.name}.md"]
        )


def test_tools_have_the_same_versions_everywhere():
    pinned = dict(
        line.split(" ;")[0].split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (ruff,) = [repo for repo in hooks if repo["repo"].endswith("ruff-pre-commit")]
    assert ruff["rev"] == f"v{pinned['ruff']}"


def test_the_citation_is_of_this_version_and_license():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert f'version="{citation["version"]}"' in setup
    assert f'license="{citation["license"]}"' in setup


def test_what_the_dockerfile_copies_exists_and_is_not_ignored():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    here = [line for line in lines if line.startswith("COPY") and "--from=" not in line]
    copied = [line.split()[1:-1] for line in here]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in (name for names in copied for name in names):
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored


def test_the_attack_of_contributing_works(tmp_path, monkeypatch):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (file,) = [
        block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "class" in block
    ]
    path = tmp_path / "shade.py"
    path.write_text(file, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("shade", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "shade", module)
    spec.loader.exec_module(module)
    # Class 1 is brighter than 0.5: the first image is out of reach, both others are not.
    images = np.ones([3, 4, 4, 1], np.float32) * np.float32([0.8, 0.45, 0.52])[:, None, None, None]
    brightness = lambda x: tf.reduce_mean(x, [1, 2, 3])  # noqa: E731
    robustness = evaluate_robustness(
        lambda x: tf.stack([0.5 - brightness(x), brightness(x) - 0.5], 1),
        images,
        np.int32([1, 0, 1]),
        [module.Shade(epsilon=0.1)],
    )
    np.testing.assert_array_equal(robustness.surviving("shade"), [True, False, False])
