"""Markdown pages and CSV files of the results."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from keras_srt.core.formatting import format_duration, format_number, format_percent
from keras_srt.reproduce.target_results import Results

_NOTHING = "–"
_READINGS = {
    "patent": "λ as in the patent's formula (15), which has separate means; RT has 128 labeled "
    "images a step.",
    "code": "λ and RT as in the authors' code (`--reading code`): one mean over both terms on "
    "poses, and RT with only the labeled part of SRT's batches.",
}
_NOT_RUN = "not run"
_COLUMNS = (
    "target", "dataset", "scale", "reading", "panel", "row", "column", "accuracy", "ci_low",
    "ci_high", "n", "seeds", "seed_low", "seed_high", "patent", "difference",
)  # fmt: skip


def markdown(results: Results) -> str:
    """Format a page with a table for each panel, followed by all settings.

    Args:
        results: From `make_results`.

    Returns:
        Markdown, with a line break at the end.
    """
    title = f"# {results['title']} ({results['dataset']}, {results['scale']})"
    parts = [title, *_introduction(results)]
    for panel in results["panels"]:
        parts += [f"## {panel['title']}", _table(_rows_of(panel))]
    parts += ["\n".join(_below(results)), "## Attacks", _attack_lines(results)]
    distances = _distance_rows(results)
    if len(distances) > 1:
        parts += ["## Smallest perturbations", _table(distances)]
    parts += ["## Models", _table(_model_rows(results)), "## Command", _command(results)]
    return "\n\n".join(parts) + "\n"


def _introduction(results: Results) -> list[str]:
    found = []
    if results["reduced"]:
        found.append(
            f"**Reduced run** (scale `{results['scale']}`): smaller models, fewer steps or fewer "
            "test images than the patent's; the numbers are no reproduction of the patent's."
        )
    found.append(_READINGS[results["reading"]])
    found += results["notes"]
    return found


def _rows_of(panel: Results) -> list[list[str]]:
    """Return the header, then our numbers and the patent's for each model."""
    header = ["", ""]
    for index, column in enumerate(panel["columns"]):
        counts = {row["cells"][index].get("n") for row in panel["rows"]} - {None}
        images = f" (n={', '.join(f'{n:,}' for n in sorted(counts))})" if counts else ""
        header.append(column["title"] + images)
    rows = [header]
    for row in panel["rows"]:
        rows.append([f"**{row['title']}**", "ours", *map(ours, row["cells"])])
        if any(cell["patent"] is not None for cell in row["cells"]):
            rows.append(["", "patent", *map(theirs, row["cells"])])
    if "rms_difference" in panel:
        rows.append(["**difference**", "root mean square", *_rms_cells(panel["rms_difference"])])
    return rows


def ours(cell: Results) -> str:
    """Format our number with its interval, and the range over seeds.

    Example:
        >>> ours({"accuracy": 0.966, "ci95": [0.95, 0.975], "seeds": {"0": 0.966}})
        '96.6 [95.0, 97.5]'
    """
    if cell["accuracy"] is None:
        return _NOT_RUN
    low, high = cell["ci95"]
    text = f"{_short(cell['accuracy'])} [{_short(low)}, {_short(high)}]"
    seeds = cell["seeds"].values()
    if len(seeds) > 1:
        text += f", {len(seeds)} seeds {_short(min(seeds))} to {_short(max(seeds))}"
    return text


def theirs(cell: Results) -> str:
    """Format the patent's number, with the difference of our number.

    Example:
        >>> theirs({"accuracy": 0.961, "patent": 0.966, "difference": -0.005})
        '96.60 (ours −0.5)'
    """
    if cell["patent"] is None:
        return _NOTHING
    if cell["accuracy"] is None:
        return format_percent(cell["patent"])
    difference = f"{100 * cell['difference']:+.1f}".replace("-", "−")
    return f"{format_percent(cell['patent'])} (ours {difference})"


def _rms_cells(differences: Sequence[float | None]) -> list[str]:
    """Format the differences from the patent, with the smallest in bold."""
    least = min((value for value in differences if value is not None), default=None)
    return [
        _NOTHING if value is None else f"**{_short(value)}**" if value == least else _short(value)
        for value in differences
    ]


def _short(share: float) -> str:
    return f"{100 * share:.1f}"


def _below(results: Results) -> list[str]:
    cells = [cell for panel in results["panels"] for row in panel["rows"] for cell in row["cells"]]
    lines = ["Accuracy in % with its 95% Wilson interval: correct before and after the attack."]
    if any(cell["accuracy"] is not None and len(cell["seeds"]) > 1 for cell in cells):
        lines.append("For several seeds: the mean, the interval of one model, and the range.")
    if any(cell["accuracy"] is None for cell in cells):
        lines.append(f"{_NOT_RUN}: the command below trains and evaluates it.")
    return lines


def _attack_lines(results: Results) -> str:
    """Format one line per attack with all its settings."""
    lines = []
    for entry in results["attacks"]:
        settings = {k: v for k, v in entry["settings"].items() if k != "name" and v is not None}
        listed = ", ".join(f"{key} {_value(value)}" for key, value in settings.items())
        images = "all" if entry["images"] is None else f"the first {entry['images']:,}"
        lines.append(f"- `{entry['settings']['name']}`: {listed}; on {images} test images")
    return "\n".join(lines)


def _value(value: object) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{key} {_value(item)}" for key, item in value.items())
        return f"({inner})"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else format_number(value)


def _distance_rows(results: Results) -> list[list[str]]:
    """Return the distances of the minimal-norm attacks."""
    rows = [["model", "attack", "norm", "median", "mean", "found", "accuracy at each radius"]]
    for panel in results["panels"]:
        for row in panel["rows"]:
            for column, cell in zip(panel["columns"], row["cells"], strict=True):
                # Only the first seed is shown.
                for found in cell.get("distances", [])[:1]:
                    rows.append([row["title"], column["title"], *_distance_cells(found)])
    return rows


def _distance_cells(found: Results) -> list[str]:
    at_radii = (
        f"{format_number(a['epsilon'])}: {_short(a['accuracy'])}" for a in found["accuracy_at"]
    )
    lengths = (_NOTHING if found[k] is None else f"{found[k]:.3g}" for k in ("median", "mean"))
    return [found["norm"], *lengths, f"{found['found']:,}", ", ".join(at_radii)]


def _model_rows(results: Results) -> list[list[str]]:
    rows = [
        ["model", "seed", "objective", "labels", "unlabeled", "labeled a step", "steps", "training"]
    ]
    for model in results["models"]:
        seconds = model["train_seconds"]
        settings = {k: v for k, v in model["objective"].items() if k != "name" and v is not None}
        weights = ", ".join(
            f"{k} {format_number(v)}" for k, v in settings.items() if isinstance(v, float | int)
        )
        rows.append(
            [
                f"`{model['folder'] or model['name']}`",
                str(model["seed"]),
                model["objective"]["name"] + (f" ({weights})" if weights else ""),
                *(f"{model[k]:,}" for k in ("labeled", "unlabeled", "labeled_per_step", "steps")),
                _NOT_RUN if seconds is None else format_duration(seconds),
            ]
        )
    return rows


def _command(results: Results) -> str:
    command = f"```sh\n{results['command']}\n```"
    return command if results["patent"] is None else f"{command}\n\nThe patent: {results['patent']}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table; the first row is the header."""
    # An unescaped bar would end the cell.
    texts = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    rule = ["---"] * len(texts[0])
    return "\n".join(f"| {' | '.join(row)} |" for row in (texts[0], rule, *texts[1:]))


def comma_separated(results: Results) -> str:
    """Format one CSV line per cell; accuracies are fractions, missing values are empty.

    Args:
        results: From `make_results`.

    Returns:
        CSV with a header.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    about = {key: results[key] for key in ("target", "dataset", "scale", "reading")}
    for panel in results["panels"]:
        for row in panel["rows"]:
            for column, cell in zip(panel["columns"], row["cells"], strict=True):
                place = {"panel": panel["title"], "row": row["key"], "column": column["key"]}
                writer.writerow({**about, **place, **_csv_cell(cell)})
    return file.getvalue()


def _csv_cell(cell: Results) -> Results:
    if cell["accuracy"] is None:
        return {"patent": cell["patent"]}
    low, high = cell["ci95"]
    seeds = cell["seeds"].values()
    return {
        **{key: cell[key] for key in ("accuracy", "n", "patent", "difference")},
        "ci_low": low,
        "ci_high": high,
        "seeds": len(seeds),
        "seed_low": min(seeds),
        "seed_high": max(seeds),
    }
