"""What `keras-srt predict` prints: a table with bars, or a JSON object for each image."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from keras_srt.predict.classification import Result

_GAP = "  "
_SCORE_WIDTH = len("score")
_MOST_BAR, _LEAST_BAR = 24, 8
_MOST_CLASS = 0.3  # of the width
_USUAL_WIDTH = 80
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def json_line(result: Result, top: int, title: str) -> str:
    """One image as a JSON object, in ASCII, so that every terminal and pipe takes it.

    Args:
        result: of one image.
        top: the number of classes under `top`.
        title: of the model.

    Returns:
        One line without its end, the keys as in `python -m keras_srt.device --json`.

    Example:
        >>> from pathlib import Path
        >>> from keras_srt.predict.backends import Answer
        >>> json_line(Result(Path("x.png"), Answer(error="is empty")), 1, "m")
        '{"file": "x.png", "model": "m", "error": "is empty"}'
    """
    content: dict[str, Any] = {"file": str(result.file), "model": title}
    answer = result.answer
    if answer.probabilities is None:
        return json.dumps({**content, "error": answer.error})
    ranking = [
        {"class_name": answer.classes[i], "score": float(answer.probabilities[i])}
        for i in answer.top(top)
    ]
    best = answer.top(1)[0]
    return json.dumps({**content, "class_id": best, **ranking[0], "top": ranking})


class Table:
    r"""Lines of a table whose columns fit what comes first.

    Args:
        files: the first files' names.
        more: whether others follow, which may have longer names.
        classes: names of the classes; none if they aren't known yet.
        top: classes to show for each image.
        width: columns of the terminal; None for a file or a pipe, where nothing is cut.
        encoding: of the output; bars and names fall back to what it has.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from keras_srt.predict.backends import Answer
        >>> result = Result(Path("x.png"), Answer(np.float32([0.25, 0.75]), ("cat", "dog")))
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
        most = int(_MOST_CLASS * (width or _USUAL_WIDTH))
        self._class = min(most, self._widest("class", *classes)) if classes else most
        self._file = self._widest("file", *files)
        rest = (width or _USUAL_WIDTH) - self._class - _SCORE_WIDTH - 3 * len(_GAP)
        if self._cuts and more:
            self._file = max(self._file, rest - _MOST_BAR)
        self._bar = max(_LEAST_BAR, min(_MOST_BAR, rest - self._file))
        if self._cuts:
            self._file = max(len("file"), min(self._file, rest - self._bar))

    def head(self) -> str:
        """The names of the columns."""
        return self._row("file", "class", "score", "")

    def rows(self, result: Result) -> list[str]:
        """The lines for an image: one for each of its best classes."""
        file = self._printable(str(result.file))
        answer = result.answer
        if answer.probabilities is None:
            return [self._row(file, "error", "", "")]
        lines = []
        for i in answer.top(self._top):
            share = float(answer.probabilities[i])
            name = self._printable(answer.classes[i])
            lines.append(self._row(file, name, f"{share:.3f}", bar(share, self._bar, self._bars)))
            file = ""
        return lines

    def _row(self, file: str, name: str, score: str, line: str) -> str:
        if self._cuts:
            # A file's end says more than its beginning.
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


def bar(share: float, width: int, blocks: str = _EIGHTHS) -> str:
    """A bar of text.

    Args:
        share: from 0 to 1.
        width: columns of a share of 1.
        blocks: signs that fill a column more and more, the first one empty.

    Returns:
        At most `width` signs.

    Example:
        >>> bar(0.5, 3), bar(0.5, 4, " #")
        ('█▌', '##')
    """
    steps = len(blocks) - 1
    full, rest = divmod(round(share * width * steps), steps)
    return blocks[-1] * full + blocks[rest].strip()


def printable(text: str, encoding: str | None) -> str:
    r"""A text with what would upset a terminal written as escapes.

    Args:
        text: a file's or a class's name, which may hold anything.
        encoding: of the output.

    Example:
        >>> printable("a\x1b[2J\n", "utf-8")
        'a\\x1b[2J\\n'
    """
    signs = [
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    ]
    encoding = encoding or "ascii"
    return "".join(signs).encode(encoding, "backslashreplace").decode(encoding)


def _can_print(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _columns(text: str) -> int:
    """Columns on a terminal, where East Asian signs take two and accents none."""
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    return len(text) + wide - sum(unicodedata.combining(sign) > 0 for sign in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


def _cut(text: str, width: int, more: str) -> str:
    if _columns(text) <= width:
        return text
    while _columns(text) > width - len(more):
        text = text[:-1]
    return text + more
