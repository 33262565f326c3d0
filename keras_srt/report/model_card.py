"""The model card: intended use, training data, results and limitations of a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_srt.core.files import write_text
from keras_srt.core.formatting import format_interval, format_percent
from keras_srt.core.shell import format_command
from keras_srt.report.facts import Fact, costs, origin
from keras_srt.report.rows import Report, Row, rows_of, short_settings
from keras_srt.report.summary import summary

_WEAKEST = 5
_MAX_CLASS_NAMES = 30
# Characters with a meaning in Markdown or HTML; an underscore within a word has none.
_SPECIAL = re.compile(r"[\\`*<>|\[\]~#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def write_card(report: Report, path: Path) -> Path:
    """Write the model card as Markdown.

    Args:
        report: Content of `report.json`.
        path: The file, usually `MODEL_CARD.md`, in an existing folder.

    Returns:
        `path`.

    Example:
        >>> write_card(report, run / "MODEL_CARD.md")  # doctest: +SKIP

    Source: Mitchell et al. 2019, "Model cards for model reporting", section 4.
    """
    parts = (
        ("Model details", _details(report)),
        ("Intended use", _intended_use(report)),
        ("Training data", _training_data(report)),
        ("Evaluation data and metrics", _metrics(report)),
        ("Results", _results(report)),
        ("Classes", _classes(report)),
        ("Limitations", _limitations(report)),
        ("How to reproduce", _how_to_reproduce(report)),
    )
    lines = [f"# Model card: {plain(report['name'])}"]
    if report.get("reduced"):
        lines += ["", f"**Reduced run:** {plain(report['reduced'])}"]
    for title, body in parts:
        if body:
            lines += ["", f"## {title}", "", *body]
    # File names may contain bytes that are not UTF-8: these become question marks.
    write_text(path, "\n".join(lines) + "\n", errors="replace")
    return path


def plain(text: str) -> str:
    r"""Escape a text for Markdown and join its lines.

    Example:
        >>> print(plain("a_b <i>|*"))
        a_b \<i\>\|\*
    """
    return _SPECIAL.sub(lambda match: "\\" + match[0], " ".join(text.split()))


def _facts(facts: Sequence[Fact]) -> list[str]:
    return [f"- {plain(term)}: {plain(text)}" for term, text in facts]


def _details(report: Report) -> list[str]:
    lines = [f"- An image classifier: {plain('images in [0, 1] to logits')}."]
    lines += [f"- {plain(line)}" for line in summary(report)[1:]]
    model = report.get("model")
    if model is not None:
        settings = ", ".join(f"{k} {v}" for k, v in model.items() if k != "name" and v is not None)
        lines.append(f"- Model {plain(model['name'])}: {plain(settings)}")
    return lines + _facts(costs(report))


def _intended_use(report: Report) -> list[str]:
    names = [each["name"] for each in report.get("classes", ())]
    shown = ", ".join(names[:_MAX_CLASS_NAMES]) + (", …" if len(names) > _MAX_CLASS_NAMES else "")
    lines = [
        f"- Classification of images like those of {plain(report['dataset']['title'])} into "
        f"{len(names)} classes: {plain(shown)}."
    ]
    if "neighborhood" in report:
        neighborhood = report["neighborhood"]
        lines.append(
            f"- Threat model in training: {plain(neighborhood['order'])}, "
            f"{plain(neighborhood['range'])}. No robustness is claimed for other or larger "
            "perturbations, except where an attack below measures it."
        )
    return [
        *lines,
        "- Not for other kinds of images: every image is assigned to one of these classes.",
        "- Not as the only safeguard where a misclassification causes harm.",
    ]


def _training_data(report: Report) -> list[str]:
    return [f"- {plain(summary(report)[0])}", *_facts(origin(report))]


def _metrics(report: Report) -> list[str]:
    n = report["clean"]["n"]
    return [
        f"- {n:,} of the {report['dataset']['num_test']:,} test images, which were not used in "
        "training.",
        "- Robust accuracy: fraction of images that are correctly classified both before and after "
        "the attack; with the 95% Wilson interval.",
        "- Worst case: fraction of images that are correctly classified under every attack.",
    ]


def _results(report: Report) -> list[str]:
    header = [
        "| attack | settings | accuracy % | 95% interval | n |",
        "| --- | --- | --: | --: | --: |",
    ]
    return [*header, *map(_result_line, rows_of(report))]


def _result_line(row: Row) -> str:
    accuracy, bounds, count, _ = row.values
    cells = (plain(row.name), plain(row.settings), accuracy, plain(bounds), count)
    return f"| {' | '.join(cells)} |"


def _classes(report: Report) -> list[str]:
    classes = [each for each in report.get("classes", ()) if each["n"]]
    weakest = sorted(classes, key=lambda each: each["worst_case"]["accuracy"])[:_WEAKEST]
    if not weakest:
        return []
    lines = [
        "Classes with the lowest worst-case accuracy:",
        "",
        "| class | clean % | worst case % | 95% interval | n |",
        "| --- | --: | --: | --: | --: |",
    ]
    for each in weakest:
        values = [format_percent(each[kind]["accuracy"]) for kind in ("clean", "worst_case")]
        bounds = plain(format_interval(each["worst_case"]["ci95"]))
        lines.append(f"| {plain(each['name'])} | {' | '.join(values)} | {bounds} | {each['n']:,} |")
    return lines


def _limitations(report: Report) -> list[str]:
    tried = "; ".join(_attack(attack) for attack in report["attacks"])
    lines = [
        "- Attacks give upper bounds of the robust accuracy: a stronger attack may lower it.",
        f"- Robustness against other attacks is unknown. Attacks used: {plain(tried)}.",
        "- The results are those of one training run with one seed; other seeds may differ by some "
        "points.",
    ]
    if report.get("reduced"):
        lines.append(f"- Reduced run ({plain(report['reduced'])}): not the full result.")
    lines += [f"- Warning: {plain(text)}." for text in report.get("warnings", ())]
    failed = [
        check["text"]
        for threat in report.get("masking", {}).get("threats", ())
        for check in threat["checks"]
        if not check["passed"]
    ]
    lines += [f"- Warning, gradient masking: {plain(text)}." for text in failed]
    lines += [
        f"- Warning, exported files: {plain(text)}."
        for text in report.get("deployment", {}).get("warnings", ())
    ]
    return lines


def _attack(attack: dict[str, Any]) -> str:
    settings = short_settings(attack)
    return f"{attack['name']} ({settings})" if settings else attack["name"]


def _how_to_reproduce(report: Report) -> list[str]:
    if "environment" not in report:
        return []
    command = format_command(report["environment"]["command"])
    return [
        "The command:",
        "",
        *(f"    {line}" for line in command.splitlines()),
        "",
        "The complete settings are in `config.json` of the run folder:",
        "`keras-srt train --config RUN/config.json --run-dir NEW` repeats the training, and",
        "`keras-srt evaluate --run RUN` repeats the evaluation. Results are identical with the "
        "same versions, machine and number of threads.",
    ]
