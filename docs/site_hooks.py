"""What MkDocs asks while it builds the site: pages that lie elsewhere, links, the reference.

README.md and others stay where GitHub shows them. Their links, and those out of `docs/`, are
relative to the repository; on the site they lead to the page made of that file, or, where there
is none, are the file's name.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
# File of the repository -> page of the site.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "deploy/README.md": "deploy.md",
    "device/README.md": "device.md",
    "benchmarks/README.md": "benchmark-commands.md",
}
# Modules at the top of the package share a page; every subpackage has its own.
TOP = "reference/top.md"
_SOURCES = {page: source for source, page in ELSEWHERE.items()}
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?://|#|mailto:)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that don't lie in `docs/`."""
    from mkdocs.structure.files import File  # here, so that the tests do without MkDocs

    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    for page, text in reference().items():
        files.append(File.generated(config, page, content=text))
    return files


def on_config(config: Any) -> Any:
    """Adds what the navigation doesn't name yet, and the reference."""
    listed = set(pages_of(config.nav))
    there = sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md"))
    more = [page for page in there if page not in listed]
    config.nav += ([{"More": more}] if more else []) + [{"Reference": list(reference())}]
    return config


def pages_of(nav: list[Any]) -> Iterator[str]:
    """The pages of a navigation, at any depth."""
    for entry in nav:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from pages_of(value) if isinstance(value, list) else [value]


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turns links to files of the repository into links to pages of the site."""
    known = {file.src_uri for file in files}
    return relink(markdown, page.file.src_uri, known)


def relink(markdown: str, page: str, known: set[str]) -> str:
    """The text of a page with the links of its source in terms of the site.

    Args:
        markdown: the text, as it stands in the repository.
        page: where the site has it, relative to `docs/`.
        known: all files of the site, relative to `docs/`.

    Example:
        >>> relink("[a](docs/a.md#b), [c](setup.py)", "index.md", {"a.md"})
        '[a](a.md#b), `setup.py`'
    """
    source = _SOURCES.get(page, f"docs/{page}")

    def replaced(link: re.Match[str]) -> str:
        text, target, anchor = link.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        here = next((p for p in _on_site(path) if p in known), None)
        if here is None:
            return f"`{text.strip('`')}`"
        return f"[{text}]({posixpath.relpath(here, posixpath.dirname(page) or '.')}{anchor or ''})"

    return _LINK.sub(replaced, markdown)


def _on_site(path: str) -> list[str]:
    """Pages that a file or folder of the repository may be on the site, likeliest first."""
    names = [path, f"{path}/README.md"]
    inside = [name.removeprefix("docs/") for name in names if name.startswith("docs/")]
    return [ELSEWHERE[name] for name in names if name in ELSEWHERE] + inside


def reference() -> dict[str, str]:
    """Page -> text of the reference, from what lies in the package."""
    package = ROOT / "keras_srt"
    modules = sorted(path.stem for path in package.glob("*.py") if not path.stem.startswith("_"))
    pages = {TOP: "# keras_srt\n\n" + "\n".join(f"::: keras_srt.{name}\n" for name in modules)}
    for path in sorted(package.glob("*/__init__.py")):
        name = path.parent.name
        pages[f"reference/{name}.md"] = f"# keras_srt.{name}\n\n::: keras_srt.{name}\n"
    return pages
