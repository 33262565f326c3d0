"""Writes docs/benchmarks.md from the figures in docs/benchmarks/.

    python benchmarks/page.py

The figures come from the JSON files that the benchmarks write with `--output`, so that the page
never says anything else than they do. Those of another machine stay beside: rename
`peers.json` to `peers.MACHINE.json` before measuring anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import evaluation_cost
import growth
import peers
import precision_cost
import step_cost
import time_to_robustness
from measuring import FOLDER, describe

PAGE = FOLDER.with_suffix(".md")

_PRECISION_SETTINGS = (
    "--variant quick --set training.steps=1000 --set training.interval=500 --limit 2000"
)


class Part(NamedTuple):
    """A part of the page.

    Attributes:
        title: of it.
        file: name of its figures, without `.json`; `FILE.MACHINE.json` are those of others.
        command: that measures them, without `--output`.
        text: what is measured, and what explains the figures.
        to_markdown: document -> tables.
    """

    title: str
    file: str
    command: str
    text: str
    to_markdown: Callable[[dict[str, Any]], str]


PARTS = (
    Part(
        "Step cost",
        "step_cost",
        "step_cost.py",
        "An SRT step beside the passes through the model that it is made of: the same model, batch "
        "and machine, in turn in one process. Rotating and shifting images is no pass through the "
        "model: the transforms are timed alone and added to the bare passes.",
        step_cost.to_markdown,
    ),
    Part(
        "Step cost in bfloat16",
        "step_cost_bfloat16",
        "step_cost.py --precision mixed_bfloat16",
        "The same in mixed precision, beside float32 steps, and the kernels that oneDNN picks. "
        "`avx512_bf16` among a processor's flags says that it can multiply bfloat16; whether that "
        "is faster than float32 shows in the kernels' own times. Those of `amx_bf16` are; those of "
        "`avx512_bf16` alone are on an AMD EPYC, and were not on an Intel Xeon, where steps took "
        "1.4 to 1.5 of float32.",
        step_cost.to_markdown,
    ),
    Part(
        "What bfloat16 costs in accuracy",
        "precision_cost",
        f"precision_cost.py {_PRECISION_SETTINGS}",
        "The same trainings in both precisions, seed by seed: a reduced run of SmallCNN. The "
        "classifiers are attacked in float32, as they are shipped. The change is taken image by "
        "image, with its 95% interval; it knows nothing of how much two trainings differ anyway, "
        "which the seeds show.",
        precision_cost.to_markdown,
    ),
    Part(
        "Peers",
        "peers",
        "peers.py",
        "Training steps of other libraries, each in a process of its own, in turn. The processes "
        "keep the memory they have got: else glibc gives it back or not, as luck has it, and a "
        "step of Torch took 440 to 540 ms on an AMD EPYC. Torch runs the published algorithm "
        "written anew (eager, channels last, the number of threads that is fastest); Foolbox's "
        "PGD perturbs the images of the same step; ART's Madry trainer, which takes labeled images "
        "alone, is beside our objective `adversarial`.",
        peers.to_markdown,
    ),
    Part(
        "Evaluation",
        "evaluation_cost",
        "evaluation_cost.py",
        "PGD-40 (ε = 0.3) and GridAdv with 775 transforms, on a standard classifier and on one "
        "that was trained against the attack. The bare passes are one of each untouched "
        "image and those that it needs until something fools the model, at the speed of a full "
        "batch; an evaluation also checks what was found and asks again, and the few images that "
        "are left late make small, slower batches: PGD's passes are replayed in these, too, since "
        "a gradient waits for the one before. An image that stays right needs every step or "
        "transform, so that an evaluation is at most 1 / (share that stays right) times cheaper "
        "than exhaustive search.",
        evaluation_cost.to_markdown,
    ),
    *(
        Part(
            f"Time to robustness: {criterion}",
            f"time_to_robustness_{criterion}",
            f"time_to_robustness.py --criterion {criterion}",
            "Seconds of a training on this machine, from the start of Python to the chosen "
            f"classifier, for {100 * target.accuracy:.2f}% of all test images right under "
            f"`{target.attack.name}`: the row of SRT in the paper. `--set` in the "
            "line of settings belongs to the command, too. Steal is the share of the "
            "processors' time that the host of a virtual machine gave to others meanwhile; it "
            "makes a training longer by as much and more.",
            time_to_robustness.to_markdown,
        )
        for criterion, target in time_to_robustness.TARGETS.items()
    ),
    Part(
        "Growth and start-up",
        "growth",
        "growth.py",
        "Step time against k, batch and image size, with the least-squares line; resident memory "
        "of `train.py` with a tiny model, after each interval with its validation, checkpoint and "
        "summaries (the first quarter of the series is left out); steps on the input "
        "pipeline, with pad-crop and flip, beside steps on one batch; and how soon a command "
        "answers.",
        growth.to_markdown,
    ),
)

_HEAD = """# Benchmarks of cost

Written by `python benchmarks/page.py` from the figures in [benchmarks/](benchmarks), which the
commands below write. Figures are medians with the middle half of the measurements in brackets;
ratios are taken round by round, so that a machine that slows down slows both sides. Measure on an
idle machine: the load before the start stands with the machine. What was measured on another
machine stands beside, under its name. Figures from a GPU are missing.
"""


def main() -> int:
    """Writes the page; 0."""
    PAGE.write_text(to_markdown(PARTS, FOLDER), encoding="utf-8")
    print(f"written: {PAGE}")
    return 0


def to_markdown(parts: Sequence[Part], folder: Path) -> str:
    """The page.

    Args:
        parts: in order.
        folder: of their figures; a part without any says so.
    """
    sections, missed, unmeasured = [], [], []
    for part in parts:
        figures = _figures(part, folder)
        for machine, text in figures:
            on_it = f" ({machine})" if machine else ""
            missed += [f"- {part.title}{on_it}: {row}" for row in not_kept(text)]
        if not figures:
            unmeasured.append(f"- {part.title}: not measured yet")
        command = f"python benchmarks/{part.command} --output docs/benchmarks/{part.file}.json"
        shown = [f"### {part.title}: {name}\n\n{text}" if name else text for name, text in figures]
        body = "\n\n".join(shown or ["Not measured yet."])
        sections.append(f"## {part.title}\n\n{part.text}\n\n    {command}\n\n{body}\n")
    kept = "Every bound that was asked of these figures is kept."
    summary = "\n".join(missed + unmeasured) or kept
    return "\n".join([_HEAD, "## What isn't reached\n", f"{summary}\n", *sections])


def _figures(part: Part, folder: Path) -> list[tuple[str, str]]:
    """The tables of a part and what measured them, for each machine; the page's own has no name."""
    files = [folder / f"{part.file}.json", *sorted(folder.glob(f"{part.file}.*.json"))]
    figures = []
    for file in filter(Path.is_file, files):
        document = json.loads(file.read_text(encoding="utf-8"))
        text = f"{part.to_markdown(document)}\n\n{describe(document['machine'])}."
        figures.append((file.stem.removeprefix(part.file).lstrip("."), text))
    return figures


def not_kept(figures: str) -> list[str]:
    """The rows of tables that break a bound, as "what: bound".

    Example:
        >>> not_kept("| SRT pixel | 1.2 | ≤ 1.05: **no** |")
        ['SRT pixel: ≤ 1.05: **no**']
    """
    rows = []
    for line in figures.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        rows += [f"{cells[0]}: {cell}" for cell in cells if "**no**" in cell]
    return rows


if __name__ == "__main__":
    sys.exit(main())
