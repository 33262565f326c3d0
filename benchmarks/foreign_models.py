"""Runs third-party models by each command, and writes docs/foreign_models.md.

Usage, in each lane: `python benchmarks/foreign_models.py [--only TITLE] [--output FILE.json]`
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "support"))

# ruff: noqa: E402
from foreign_kinds import COMMANDS, KINDS, cell, make_sample

from keras_srt.core.files import write_json
from keras_srt.core.tensorflow import keras, tf

_INTRODUCTION = """# Third-party models, by command

Each model was saved as its row says and was then used by `keras-srt evaluate`, `predict`, `export`
and `serve`, or in Python for a function, with the options in the second column. **yes**: `evaluate`
measured the accuracy of the original, and the others its probabilities within 1e-5, on the same 30
images. How to choose the options: [External models](evaluation.md#external-models).

`python benchmarks/foreign_models.py` in each lane writes this page, and
`pytest tests/nightly/test_foreign_models.py` checks it. The `.keras` file of the other Keras is one
of the lane's own, with the other version in its metadata.
"""


def main() -> int:
    """Run all models in this lane; return 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "foreign_models.json")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), metavar="TITLE")
    options = parser.parse_args()
    output = options.output
    lane = (
        f"Python {sys.version_info.major}.{sys.version_info.minor}, TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}"
    )
    lanes: dict[str, Any] = json.loads(output.read_text()) if output.is_file() else {}
    for title in options.only:  # written after each, since all take minutes
        rows = lanes.get(lane, {}) | {title: _row(title)}
        lanes[lane] = {title: rows[title] for title in KINDS if title in rows}
        lanes = dict(sorted(lanes.items()))
        write_json(output, lanes)
        output.with_suffix(".md").write_text(to_markdown(lanes), encoding="utf-8")
    print(f"written: {output} and {output.with_suffix('.md')}")
    return 0


def _row(title: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        foreign = KINDS[title](Path(folder))
        sample = make_sample(foreign, Path(folder))
        row = {"options": " ".join(foreign.options)}
        for command in COMMANDS:
            row[command] = cell(command, foreign, sample, Path(folder))
            print(f"{title}: {command}: {row[command]}", flush=True)
    return row


def to_markdown(lanes: dict[str, Any]) -> str:
    """Make the page of all lanes; each reason is a numbered line below its table."""
    parts = [_INTRODUCTION]
    for lane, rows in lanes.items():
        reasons: list[str] = []
        lines = [f"\n## {lane}\n", f"| model | options | {' | '.join(COMMANDS)} |"]
        lines.append("| --- | --- | " + " | ".join("---" for _ in COMMANDS) + " |")
        for title, row in rows.items():
            cells = [_short(row[command], reasons) for command in COMMANDS]
            options = f"`{row['options']}`" if row["options"] else ""
            lines.append(f"| {title} | {options} | {' | '.join(cells)} |")
        lines.append("")
        lines += [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
        parts.append("\n".join(lines) + "\n")
    return "".join(parts)


def _short(text: str, reasons: list[str]) -> str:
    """The first word of a cell, with the number of its reason."""
    word, _, reason = text.partition(": ")
    if not reason:
        return word
    if reason not in reasons:
        reasons.append(reason)
    return f"{word} ({reasons.index(reason) + 1})"


if __name__ == "__main__":
    sys.exit(main())
