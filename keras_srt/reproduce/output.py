"""Output files of a target: Markdown, CSV, JSON and PNG."""

from __future__ import annotations

from pathlib import Path

from keras_srt.core.errors import UserError
from keras_srt.core.files import write_json, write_text
from keras_srt.reproduce.figures import draw
from keras_srt.reproduce.tables import comma_separated, markdown
from keras_srt.reproduce.target_results import Results


def write_target(results: Results, name: str, folder: Path) -> list[Path]:
    """Write a table or figure as Markdown, CSV, JSON and PNG.

    Args:
        results: From `make_results`.
        name: The file name without extension.
        folder: The folder to write to; created if missing.

    Returns:
        The files.

    Raises:
        UserError: The folder can't be written.
    """
    files = {ending: folder / f"{name}.{ending}" for ending in ("md", "csv", "json", "png")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(files["md"], markdown(results))
        write_text(files["csv"], comma_separated(results))
        write_json(files["json"], results)
        draw(results, files["png"])
    except OSError as error:
        raise UserError(
            f"--output {folder}: can't be written ({error.strerror}); give another folder"
        ) from error
    return list(files.values())
