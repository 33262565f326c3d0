"""The harness of the benchmarks: interleaved timing, medians and quartiles, the machine."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from keras_srt.core.files import write_json
from keras_srt.core.formatting import format_duration

_PACKAGES = (
    "tensorflow",
    "tensorflow-addons",
    "numpy",
    "torch",
    "foolbox",
    "adversarial-robustness-toolbox",
)
# The processor features that determine the speed of each precision.
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")
_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


class Spread(NamedTuple):
    """Median and quartiles of n measurements."""

    median: float
    low: float
    high: float
    n: int

    def format(self, factor: float = 1.0) -> str:
        """The median with the quartiles in parentheses, to three digits.

        Example:
            >>> Spread(0.2041, 0.2, 0.21, 15).format(1000)
            '204 (200–210)'
        """
        median, low, high = (f"{number * factor:#.3g}".rstrip(".") for number in self[:3])
        return f"{median} ({low}–{high})"


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles (inclusive, as NumPy's percentiles).

    Example:
        >>> spread([4.0, 1.0, 3.0, 2.0, 5.0])
        Spread(median=3.0, low=2.0, high=4.0, n=5)
    """
    if len(values) == 1:
        return Spread(values[0], values[0], values[0], 1)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high, len(values))


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """Ratios round by round, which are robust to a machine that slows down.

    Example:
        >>> ratio([2.0, 6.0], [1.0, 3.0])
        Spread(median=2.0, low=2.0, high=2.0, n=2)
    """
    return spread([above / below for above, below in zip(numerator, denominator, strict=True)])


def interleave(
    programs: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 2
) -> dict[str, list[float]]:
    """Times programs in turn, every second round in reverse order.

    Args:
        programs: What to run, by name; each must have finished when it returns.
        rounds: Number of timed runs of each program.
        warm_up: Number of untimed runs of each program.

    Returns:
        Seconds of every timed run, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    progress = Progress(rounds + warm_up)
    for number in range(rounds + warm_up):
        names = list(programs)
        for name in names if number % 2 else reversed(names):
            began = time.perf_counter()
            programs[name]()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - began)
        progress.update(number + 1, ", ".join(names))
    return seconds


class Progress:
    """A progress line on stderr with the remaining time.

    Args:
        total: Number of rounds.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._began = time.perf_counter()

    def update(self, done: int, what: str) -> None:
        """Rewrites the line, and ends it after the last round."""
        rest = (time.perf_counter() - self._began) / done * (self._total - done)
        end = "\n" if done == self._total else ""
        line = f"{done}/{self._total}, about {format_duration(rest)} left: {what}"
        print(f"\r\x1b[K{line[:110]}", end=end, file=sys.stderr, flush=True)


class StealClock:
    """Measures steal: the share of processor time that a virtual machine's host took away.

    Args:
        file: Linux' processor statistics.
    """

    def __init__(self, file: Path = Path("/proc/stat")) -> None:
        self._file = file
        self._before = self._ticks()

    def share(self) -> float | None:
        """The share since construction; None if the system does not report it."""
        before, now = self._before, self._ticks()
        if before is None or now is None or sum(now) == sum(before):
            return None
        return (now[7] - before[7]) / (sum(now) - sum(before))

    def _ticks(self) -> list[int] | None:
        if not self._file.is_file():
            return None
        # cpu user nice system idle iowait irq softirq steal guest guest_nice; user includes guest.
        return [int(field) for field in self._file.read_text().splitlines()[0].split()[1:9]]


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, memory, versions, load, date."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().partition("\n\n")[0].splitlines() if file.is_file() else []
    cpuinfo = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    flags = set(cpuinfo.get("flags", "").split())
    return {
        "processor": cpuinfo.get("model name", platform.machine()),
        "cores": os.cpu_count(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: installed for name in _PACKAGES if (installed := version(name))},
        "threads": {name: os.environ[name] for name in _THREADS if name in os.environ},
        "load": round(os.getloadavg()[0], 2),
        "date": datetime.date.today().isoformat(),
    }


def describe(of: Mapping[str, Any]) -> str:
    """The machine in a line of text."""
    versions = ", ".join(f"{name} {number}" for name, number in of["versions"].items())
    threads = "".join(f", {name}={value}" for name, value in of["threads"].items())
    return (
        f"{of['cores']} cores of {of['processor']} ({' '.join(of['flags'])}), "
        f"{of['memory_gib']:g} GiB, {of['system']}, Python {of['python']}, {versions}{threads}; "
        f"load before the start {of['load']:g}; {of['date']}"
    )


def version(distribution: str) -> str:
    """The installed version of a distribution, or an empty string."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the columns after the first are right-aligned.

    Example:
        >>> print(table(["what", "ms"], [["a", "1"]]))
        | what | ms |
        | --- | ---: |
        | a | 1 |
    """
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark: `--output` and `--quick`."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--output", type=Path, help="write the figures as JSON to this file")
    made.add_argument(
        "--quick", action="store_true", help="a few rounds, to check that the benchmark works"
    )
    return made


def finish(document: dict[str, Any], text: str, output: Path | None) -> int:
    """Prints the machine and the tables, writes the JSON, and returns the exit code 0."""
    print(f"{describe(document['machine'])}\n\n{text}")
    save(document, output)
    return 0


def save(document: dict[str, Any], output: Path | None) -> None:
    """Writes the JSON if a file was given."""
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, document)
