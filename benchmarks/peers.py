"""Training steps of other libraries beside ours: the same model, batch, k and ε.

    python benchmarks/peers.py [--rounds 12] [--output FILE.json]

Each library has a process of its own, that sleeps until it is its turn, and then makes some steps
in a row, as a training does; `peer_jobs.py` says what a step is. What isn't installed is named and
left out: `pip install -e ".[crosscheck]"`, and Torch.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from measuring import (
    bound,
    describe_spread,
    finish,
    interleave,
    machine,
    parser,
    ratio,
    spread,
    table,
)
from peer_jobs import EPSILON, IMAGES, JOBS, LABELED, STEPS

from keras_srt.core.errors import UserError

# Steps in a row: a single one would pay for waking up its threads and refilling the caches.
TURN = 4
# glibc's malloc keeps freed memory or gives it back, as luck has it: on an AMD EPYC a step of Torch
# had 0 to 60,000 page faults, the same in a whole process, and took 440 to 540 ms. Here it is kept.
_MEMORY_KEPT = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**34)}


class Pair(NamedTuple):
    """Who is compared with whom.

    Attributes:
        ours: a job.
        theirs: a job of the same task.
        asked: times as many images a second, of issue 5; None where nothing was asked.
    """

    ours: str
    theirs: str
    asked: float | None


PAIRS = (
    Pair("keras_srt", "Torch", 1.3),
    Pair("keras_srt, bfloat16", "Torch", 2.2),
    Pair("keras_srt, bfloat16", "Torch, bfloat16", None),
    Pair("keras_srt", "Foolbox", 2.5),
    Pair("keras_srt, adversarial", "ART", 2.5),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints a table; 0, or 2 where a library fails."""
    options = _options().parse_args(arguments)
    if options.worker is not None:
        _work(options.worker)
        return 0
    described = machine()
    missing = {name: job.distribution for name, job in JOBS.items() if not _version(job)}
    for name, distribution in missing.items():
        print(f"{name} left out: {distribution} isn't installed", file=sys.stderr)
    jobs = [name for name in options.jobs if name not in missing]
    try:
        seconds = measure(jobs, 2 if options.quick else options.rounds)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    document = {
        "machine": described,
        "model": "SmallCNN",
        "images": IMAGES,
        "labeled": LABELED,
        "k": STEPS,
        "epsilon": EPSILON,
        "steps_in_a_row": TURN,
        "rows": [
            {
                "job": name,
                "task": JOBS[name].task,
                "library": f"{JOBS[name].distribution} {_version(JOBS[name])}",
                "seconds": seconds[name],
            }
            for name in jobs
        ],
    }
    return finish(document, to_markdown(document), options.output)


def measure(jobs: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step of each job, `TURN` steps in turn, each job in its own process.

    Raises:
        UserError: a process ends by itself; with the end of what it said.
    """
    with ExitStack() as stack:
        turns = {}
        for name in jobs:
            print(f"starting {name}", file=sys.stderr)
            turns[name] = stack.enter_context(_process(name))
        seconds = interleave(turns, rounds)
    return {name: [turn / TURN for turn in took] for name, took in seconds.items()}


@contextmanager
def _process(name: str) -> Iterator[Callable[[], None]]:
    """A process that makes `TURN` steps of the job whenever it is asked."""
    with tempfile.TemporaryFile("w+") as said:
        command = [sys.executable, str(Path(__file__).resolve()), "--worker", name]
        with subprocess.Popen(
            command,
            env={**os.environ, **_MEMORY_KEPT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        ) as process:

            def wait() -> None:
                if not process.stdout.readline():
                    said.seek(0)
                    raise UserError(f"{name}: ended by itself\n{said.read()[-2000:]}")

            def take_turn() -> None:
                print(file=process.stdin, flush=True)
                wait()

            try:
                wait()
                yield take_turn
            finally:
                process.kill()


def _work(name: str) -> None:
    """Makes the job, then `TURN` steps for each line of stdin, and answers each line."""
    done = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # What the libraries print goes elsewhere.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    step = JOBS[name].make()
    print("ready", file=done, flush=True)
    for _ in sys.stdin:
        for _ in range(TURN):
            step()
        print("done", file=done, flush=True)


def compare(rows: Sequence[dict[str, Any]]) -> list[tuple[Pair, Any]]:
    """How many times as many images a second ours are, for each pair that was measured.

    Args:
        rows: of the document.

    Returns:
        Pairs, each with a `Spread`.
    """
    seconds = {row["job"]: row["seconds"] for row in rows}
    measured = [pair for pair in PAIRS if {pair.ours, pair.theirs} <= seconds.keys()]
    return [(pair, ratio(seconds[pair.theirs], seconds[pair.ours])) for pair in measured]


def to_markdown(document: dict[str, Any]) -> str:
    """The figures as two tables: each library by itself, and the pairs."""
    n = document["images"]
    rows = [
        [
            row["job"],
            row["task"],
            row["library"],
            describe_spread(spread(row["seconds"]), 1000),
            f"{n / spread(row['seconds']).median:.0f}",
        ]
        for row in document["rows"]
    ]
    pairs = [
        [
            f"{pair.ours} by {pair.theirs}",
            f"{describe_spread(times)}×",
            "–" if pair.asked is None else bound(times.median, pair.asked, at_most=False),
        ]
        for pair, times in compare(document["rows"])
    ]
    return "\n".join(
        [
            f"{document['model']}, m = {n}, m_L = {document['labeled']} (srt), "
            f"k = {document['k']}, ε = {document['epsilon']:g}, "
            f"{document['steps_in_a_row']} steps in a row",
            "",
            table(["job", "task", "library", "ms a step", "images/s"], rows),
            "",
            table(["pair", "images/s, ours by theirs", "asked"], pairs),
        ]
    )


def _version(job: Any) -> str:
    """Of its library; empty where that isn't installed."""
    try:
        return metadata.version(job.distribution)
    except metadata.PackageNotFoundError:
        return ""


def _options() -> argparse.ArgumentParser:
    made = parser(__doc__.splitlines()[0], "peers")
    made.add_argument("--rounds", type=int, default=12, help="timed steps of each library")
    made.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    made.add_argument("--worker", choices=list(JOBS), help=argparse.SUPPRESS)
    return made


if __name__ == "__main__":
    sys.exit(main())
