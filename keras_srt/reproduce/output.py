"""The files of a target: Markdown, CSV, JSON and PNG."""

from __future__ import annotations

from pathlib import Path

from keras_srt.core.errors import UserError
from keras_srt.core.files import write_json
from keras_srt.reproduce.figures import draw
from keras_srt.reproduce.tables import comma_separated, markdown
from keras_srt.reproduce.target_results import Results


def write_target(results: Results, name: str, folder: Path) -> list[Path]:
    """Writes a table or figure in four forms.

    Args:
        results: of `make_results`.
        name: of the files, without an ending.
        folder: where to write; is made if it isn't there.

    Returns:
        The files.

    Raises:
        UserError: the folder can't be written.
    """
    files = {ending: folder / f"{name}.{ending}" for ending in ("md", "csv", "json", "png")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files["md"].write_text(markdown(results), encoding="utf-8")
        files["csv"].write_text(comma_separated(results), encoding="utf-8")
        write_json(files["json"], results)
        draw(results, files["png"])
    except OSError as error:
        raise UserError(
            f"--output {folder}: can't be written ({error.strerror}); give another folder"
        ) from error
    return list(files.values())
