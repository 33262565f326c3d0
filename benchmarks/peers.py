"""Training steps against those of other libraries: the same model, batch, k and ε.

    python benchmarks/peers.py [--rounds 12] [--output FILE.json]

Each library runs in its own process, which sleeps until its turn and then runs several steps in a
row; `peer_steps.py` defines the steps. Libraries that are not installed are reported and skipped:
`pip install -e ".[crosscheck]"`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from harness import finish, interleave, machine, parser, ratio, spread, table, version
from peer_steps import EPSILON, IMAGES, JOBS, LABELED, STEPS

# Steps per turn: a single step would include waking up threads and refilling caches.
TURN = 4
# glibc's malloc otherwise sometimes returns freed memory to the system, for a whole process: on an
# AMD EPYC a step of Torch had 0 to 60,000 page faults and took 440 to 540 ms.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**34)}
PAIRS = (
    ("keras_srt", "Torch"),
    ("keras_srt, bfloat16", "Torch"),
    ("keras_srt, bfloat16", "Torch, bfloat16"),
    ("keras_srt", "Foolbox"),
    ("keras_srt, adversarial", "ART"),
)


class PeerFailedError(RuntimeError):
    """The process of a library ended during the benchmark."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints the tables; 2 if a library fails."""
    options = _options().parse_args(arguments)
    if options.worker is not None:
        _work(options.worker)
        return 0
    described = machine()
    jobs = [name for name in options.jobs if version(JOBS[name].distribution)]
    for name in sorted(set(options.jobs) - set(jobs)):
        print(f"{name} skipped: {JOBS[name].distribution} is not installed", file=sys.stderr)
    try:
        seconds = measure(jobs, 2 if options.quick else options.rounds)
    except PeerFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = [
        {
            "job": name,
            "task": JOBS[name].task,
            "library": f"{JOBS[name].distribution} {version(JOBS[name].distribution)}",
            "seconds": seconds[name],
        }
        for name in jobs
    ]
    document = {
        "machine": described,
        "model": "SmallCNN",
        "images": IMAGES,
        "labeled": LABELED,
        "k": STEPS,
        "epsilon": EPSILON,
        "steps_in_a_row": TURN,
        "rows": rows,
    }
    return finish(document, to_markdown(document), options.output)


def measure(jobs: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Seconds per step of each job, `TURN` steps per turn, each job in its own process.

    Raises:
        PeerFailedError: A process ended; the message has the end of its output.
    """
    with ExitStack() as stack:
        turns = {}
        for name in jobs:
            print(f"starting {name}", file=sys.stderr)
            turns[name] = stack.enter_context(_process(name))
        seconds = interleave(turns, rounds)
    return {name: [turn / TURN for turn in taken] for name, taken in seconds.items()}


@contextmanager
def _process(name: str) -> Iterator[Callable[[], None]]:
    """A process that runs `TURN` steps of the job at each call."""
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, str(Path(__file__).resolve()), "--worker", name]
        with subprocess.Popen(
            command,
            env={**os.environ, **_KEEP_MEMORY},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process:

            def wait() -> None:
                if not process.stdout.readline():
                    log.seek(0)
                    raise PeerFailedError(f"{name}: ended\n{log.read()[-2000:]}")

            def take_turn() -> None:
                print(file=process.stdin, flush=True)
                wait()

            try:
                wait()
                yield take_turn
            finally:
                process.kill()


def _work(name: str) -> None:
    """Runs `TURN` steps of the job for each line of stdin, and writes a line after each turn."""
    done = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the libraries print to stdout
    step = JOBS[name].make()
    print("ready", file=done, flush=True)
    for _ in sys.stdin:
        for _ in range(TURN):
            step()
        print("done", file=done, flush=True)


def compare(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], Any]:
    """Ratio of images per second, ours to theirs, for each pair that was measured."""
    seconds = {row["job"]: row["seconds"] for row in rows}
    measured = [pair for pair in PAIRS if set(pair) <= seconds.keys()]
    return {pair: ratio(seconds[pair[1]], seconds[pair[0]]) for pair in measured}


def to_markdown(document: dict[str, Any]) -> str:
    """The figures as two tables: each library, and the pairs."""
    n = document["images"]
    rows = [
        [
            row["job"],
            row["task"],
            row["library"],
            spread(row["seconds"]).format(1000),
            f"{n / spread(row['seconds']).median:.0f}",
        ]
        for row in document["rows"]
    ]
    pairs = [
        [" / ".join(pair), f"{times.format()}×"]
        for pair, times in compare(document["rows"]).items()
    ]
    head = (
        f"{document['model']}, m = {n}, m_L = {document['labeled']} (srt), k = {document['k']}, "
        f"ε = {document['epsilon']:g}, {document['steps_in_a_row']} steps in a row"
    )
    libraries = table(["job", "task", "library", "ms per step", "images/s"], rows)
    return f"{head}\n\n{libraries}\n\n{table(['pair', 'images/s, ratio'], pairs)}"


def _options() -> argparse.ArgumentParser:
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--rounds", type=int, default=12, help="timed turns of each library")
    made.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    made.add_argument("--worker", choices=list(JOBS), help=argparse.SUPPRESS)
    return made


if __name__ == "__main__":
    sys.exit(main())
