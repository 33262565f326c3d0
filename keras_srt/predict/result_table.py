"""Formatting of results: a table with bars, or one JSON object per image."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from keras_srt.core.formatting import printable
from keras_srt.predict.classification import Result

_GAP = "  "
_SCORE_WIDTH = len("score")
_MAX_BAR, _MIN_BAR = 24, 8
_MAX_CLASS = 0.3  # of the width
_DEFAULT_WIDTH = 80
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def json_line(result: Result, top: int, title: str) -> str:
    """Format a result as a JSON object, in ASCII.

    Args:
        result: The result.
        top: Number of classes under the key `top`.
        title: Name of the model.

    Returns:
        One line without a line break; keys as in `python -m keras_srt.device --json`.

    Example:
        >>> from pathlib import Path
        >>> from keras_srt.predict.backends import Prediction
        >>> json_line(Result(Path("x.png"), Prediction(error="is empty")), 1, "m")
        '{"file": "x.png", "model": "m", "error": "is empty"}'
    """
    content: dict[str, Any] = {"file": str(result.file), "model": title}
    prediction = result.prediction
    if prediction.probabilities is None:
        return json.dumps({**content, "error": prediction.error})
    ranking = [
        {"class_name": prediction.classes[i], "score": float(prediction.probabilities[i])}
        for i in prediction.top(top)
    ]
    best = prediction.top(1)[0]
    return json.dumps({**content, "class_id": best, **ranking[0], "top": ranking})


class Table:
    r"""Lines of a table with column widths for the first files.

    Args:
        files: Names of the first files.
        more: Whether further files follow, which may have longer names.
        classes: Class names; empty if unknown.
        top: Number of classes per image.
        width: Columns of the terminal; None for a file or pipe, where nothing is cut.
        encoding: Encoding of the output; bars and names use only characters in it.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from keras_srt.predict.backends import Prediction
        >>> result = Result(Path("x.png"), Prediction(np.float32([0.25, 0.75]), ("cat", "dog")))
        >>> table = Table(["x.png"], False, ["cat", "dog"], top=2, width=48, encoding="ascii")
        >>> print("\n".join([table.head(), *table.rows(result)]))
        file   class  score
        x.png  dog    0.750  ##################
               cat    0.250  ######
    """

    def __init__(
        self,
        files: Iterable[str],
        more: bool,
        classes: Sequence[str],
        top: int,
        width: int | None,
        encoding: str | None,
    ) -> None:
        self._top = top
        self._encoding = encoding or "ascii"
        self._cuts = width is not None
        self._bars = _EIGHTHS if _can_print(_EIGHTHS, self._encoding) else " #"
        self._more = "…" if _can_print("…", self._encoding) else "~"
        most = int(_MAX_CLASS * (width or _DEFAULT_WIDTH))
        self._class = min(most, self._widest("class", *classes)) if classes else most
        self._file = self._widest("file", *files)
        rest = (width or _DEFAULT_WIDTH) - self._class - _SCORE_WIDTH - 3 * len(_GAP)
        if self._cuts and more:
            self._file = max(self._file, rest - _MAX_BAR)
        self._bar = max(_MIN_BAR, min(_MAX_BAR, rest - self._file))
        if self._cuts:
            self._file = max(len("file"), min(self._file, rest - self._bar))

    def head(self) -> str:
        """Format the names of the columns."""
        return self._row("file", "class", "score", "")

    def rows(self, result: Result) -> list[str]:
        """Format the lines of an image: one for each of its most probable classes."""
        file = self._printable(str(result.file))
        prediction = result.prediction
        if prediction.probabilities is None:
            return [self._row(file, "error", "", "")]
        lines = []
        for i in prediction.top(self._top):
            score = float(prediction.probabilities[i])
            name = self._printable(prediction.classes[i])
            lines.append(self._row(file, name, f"{score:.3f}", bar(score, self._bar, self._bars)))
            file = ""
        return lines

    def _row(self, file: str, name: str, score: str, line: str) -> str:
        if self._cuts:
            # The end of a path is more informative than its beginning.
            file = _cut(file[::-1], self._file, self._more)[::-1]
            name = _cut(name, self._class, self._more)
        columns = (
            _padded(file, self._file),
            _padded(name, self._class),
            score.rjust(_SCORE_WIDTH),
            line,
        )
        return _GAP.join(columns).rstrip()

    def _widest(self, *texts: str) -> int:
        return max(_columns(self._printable(text)) for text in texts)

    def _printable(self, text: str) -> str:
        return printable(text, self._encoding)


def bar(fraction: float, width: int, blocks: str = _EIGHTHS) -> str:
    """Format a bar.

    Args:
        fraction: Length of the bar, from 0 to 1.
        width: Columns of a bar of length 1.
        blocks: Characters that fill a column increasingly; the first is blank.

    Returns:
        At most `width` characters.

    Example:
        >>> bar(0.5, 3), bar(0.5, 4, " #")
        ('█▌', '##')
    """
    steps = len(blocks) - 1
    full, rest = divmod(round(fraction * width * steps), steps)
    return blocks[-1] * full + blocks[rest].strip()


def _can_print(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _columns(text: str) -> int:
    """Terminal columns of a text: East Asian wide characters take two, combining ones none."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


def _cut(text: str, width: int, more: str) -> str:
    if _columns(text) <= width:
        return text
    while _columns(text) > width - len(more):
        text = text[:-1]
    return text + more
