"""What the benchmarks of cost share: interleaved timing, medians and spread, the machine."""

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

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"

_PACKAGES = (
    "tensorflow",
    "tensorflow-addons",
    "numpy",
    "torch",
    "foolbox",
    "adversarial-robustness-toolbox",
)
# Of the processor: what decides how fast each precision is.
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")
_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


class Spread(NamedTuple):
    """The median of some measurements, and the middle half of them.

    Attributes:
        median: of all.
        low: a quarter of them lies below.
        high: a quarter of them lies above.
        n: how many there are.
    """

    median: float
    low: float
    high: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles (inclusive, as NumPy's percentiles).

    Args:
        values: at least one.

    Example:
        >>> spread([4.0, 1.0, 3.0, 2.0, 5.0])
        Spread(median=3.0, low=2.0, high=4.0, n=5)
    """
    if len(values) == 1:
        return Spread(values[0], values[0], values[0], 1)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high, len(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Ours by theirs, round by round: a machine that slows down slows both.

    Args:
        ours: seconds of each round.
        theirs: seconds of the same rounds.

    Example:
        >>> ratio([2.0, 6.0], [1.0, 3.0])
        Spread(median=2.0, low=2.0, high=2.0, n=2)
    """
    return spread([own / other for own, other in zip(ours, theirs, strict=True)])


def interleave(
    programs: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 2
) -> dict[str, list[float]]:
    """Times programs in turn, and every second round in the opposite order.

    Args:
        programs: what to run, by name; each must have finished its work when it returns.
        rounds: timed runs of each.
        warm_up: runs of each before them: tracing, and caches that fill.

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
        progress.tell(number + 1, ", ".join(names))
    return seconds


class Progress:
    """A line on stderr: rounds done, and about how long the rest takes.

    Args:
        total: rounds in all.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._began = time.perf_counter()

    def tell(self, done: int, what: str) -> None:
        """Writes the line anew; ends it after the last round."""
        rest = (time.perf_counter() - self._began) / done * (self._total - done)
        end = "\n" if done == self._total else ""
        line = f"{done}/{self._total}, about {format_duration(rest)} left: {what}"
        print(f"\r\x1b[K{line[:110]}", end=end, file=sys.stderr, flush=True)


class StealClock:
    """Steal: how much of the processors' time the host of a virtual machine gave to others.

    Seconds of a benchmark on such a machine are more than its processors took for it. Linux
    counts in /proc/stat for how long a processor had work and was not let run.

    Args:
        file: of that count.
    """

    def __init__(self, file: Path = Path("/proc/stat")) -> None:
        self._file = file
        self._before = _processor_ticks(file)

    def share(self) -> float | None:
        """The share that was taken since this was made; None where nothing counts it."""
        before, now = self._before, _processor_ticks(self._file)
        if before is None or now is None or now.total == before.total:
            return None
        return (now.stolen - before.stolen) / (now.total - before.total)


class _Ticks(NamedTuple):
    """Of all processors together, since the start of the machine."""

    stolen: int
    total: int


def _processor_ticks(file: Path) -> _Ticks | None:
    if not file.is_file():
        return None
    # cpu user nice system idle iowait irq softirq steal guest guest_nice: guests are in user, too.
    ticks = [int(field) for field in file.read_text().splitlines()[0].split()[1:9]]
    return _Ticks(ticks[7], sum(ticks))


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, memory, versions, load, date."""
    cpuinfo = _cpuinfo()
    flags = set(cpuinfo.get("flags", "").split())
    return {
        "processor": cpuinfo.get("model name", platform.machine()),
        "cores": os.cpu_count(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "threads": {name: os.environ[name] for name in _THREADS if name in os.environ},
        # Of one minute, before the benchmark adds its own: an idle machine has about 0.
        "load": round(os.getloadavg()[0], 2),
        "date": datetime.date.today().isoformat(),
    }


def describe(of: Mapping[str, Any]) -> str:
    """The machine in a line of text."""
    versions = ", ".join(f"{name} {version}" for name, version in of["versions"].items())
    threads = "".join(f", {name}={value}" for name, value in of["threads"].items())
    return (
        f"{of['cores']} cores of {of['processor']} ({' '.join(of['flags'])}), "
        f"{of['memory_gib']:g} GiB, {of['system']}, Python {of['python']}, {versions}{threads}; "
        f"load before the start {of['load']:g}; {of['date']}"
    )


def describe_spread(value: Spread, factor: float = 1.0) -> str:
    """The median, and the middle half in brackets, to three digits.

    Example:
        >>> describe_spread(Spread(0.2041, 0.2, 0.21, 15), 1000)
        '204 (200–210)'
    """
    median, low, high = (f"{number * factor:#.3g}".rstrip(".") for number in value[:3])
    return f"{median} ({low}–{high})"


def bound(value: float, asked: float, at_most: bool = True) -> str:
    """Whether a figure keeps to what was asked, for a table.

    Example:
        >>> bound(1.03, 1.05), bound(1.1, 1.3, at_most=False)
        ('≤ 1.05: yes', '≥ 1.3: **no**')
    """
    kept = value <= asked if at_most else value >= asked
    return f"{'≤' if at_most else '≥'} {asked:g}: {'yes' if kept else '**no**'}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the columns after the first are aligned to the right.

    Example:
        >>> print(table(["what", "ms"], [["a", "1"]]))
        | what | ms |
        | --- | ---: |
        | a | 1 |
    """
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def parser(description: str, name: str) -> argparse.ArgumentParser:
    """The options that all have: `--output` and `--quick`."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        "--output",
        type=Path,
        help=f"write the figures as JSON to this file (the page reads docs/benchmarks/{name}.json)",
    )
    made.add_argument(
        "--quick", action="store_true", help="a few rounds, to see that it works; no figures"
    )
    return made


def finish(document: dict[str, Any], text: str, output: Path | None) -> int:
    """Prints the table and writes the JSON; 0, the exit code."""
    print(f"{describe(document['machine'])}\n\n{text}")
    save(document, output)
    return 0


def save(document: dict[str, Any], output: Path | None) -> None:
    """Writes the JSON, if a file was given."""
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, document)


def _cpuinfo() -> dict[str, str]:
    """Keys and values of the first processor; empty where there is no such file."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().partition("\n\n")[0].splitlines() if file.is_file() else []
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
