"""The model card: what a model is for, how it was made, how well it holds, and its limits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_srt.core.shell import shown_command
from keras_srt.report.facts import Fact, costs, origin
from keras_srt.report.rows import (
    Report,
    Row,
    interval,
    percent,
    rows_of,
    short_settings,
    summary,
)

# As in the classes' part of the page.
_WEAKEST = 5
# What Markdown or HTML would take for more than a letter; an underscore within a word is one.
_SPECIAL = re.compile(r"[\\`*<>|\[\]~#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def write_card(report: Report, path: Path) -> Path:
    """Writes the model card as Markdown.

    Args:
        report: what `report.json` holds.
        path: the file, usually `MODEL_CARD.md`; its folder has to exist.

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
        ("How to repeat", _how_to_repeat(report)),
    )
    lines = [f"# Model card: {plain(report['name'])}"]
    if report.get("reduced"):
        lines += ["", f"**Reduced run:** {plain(report['reduced'])}"]
    for title, body in parts:
        if body:
            lines += ["", f"## {title}", "", *body]
    # A file name may hold bytes that are no text: those become question marks.
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
    return path


def plain(text: str) -> str:
    r"""A text that Markdown shows as it is, on one line.

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
    told = ", ".join(names[:30]) + (", …" if len(names) > 30 else "")
    lines = [
        f"- To sort images like those of {plain(report['dataset']['title'])} into "
        f"{len(names)} classes: {plain(told)}."
    ]
    if "neighborhood" in report:
        ball = report["neighborhood"]
        lines.append(
            f"- Trained to hold under tampering of this kind and size: {plain(ball['order'])}, "
            f"{plain(ball['range'])}. Not for other or stronger tampering, unless an attack below "
            "shows that it holds."
        )
    return [
        *lines,
        "- Not for images of other kinds: any image gets one of these classes, whatever it shows.",
        "- Not as the only safeguard where a wrong answer does harm.",
    ]


def _training_data(report: Report) -> list[str]:
    return [f"- {plain(summary(report)[0])}", *_facts(origin(report))]


def _metrics(report: Report) -> list[str]:
    n = report["clean"]["n"]
    return [
        f"- {n:,} of the dataset's {report['dataset']['num_test']:,} test images, which were not "
        "used in training.",
        "- Accuracy: the share of images that are right, before and after the attack alike; with "
        "the 95% Wilson interval.",
        "- Worst case: an image counts if it stays right under every attack.",
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
        "The weakest in the worst case:",
        "",
        "| class | clean % | worst case % | 95% interval | n |",
        "| --- | --: | --: | --: | --: |",
    ]
    for each in weakest:
        shares = [percent(each[kind]["accuracy"]) for kind in ("clean", "worst_case")]
        bounds = plain(interval(each["worst_case"]["ci95"]))
        lines.append(f"| {plain(each['name'])} | {' | '.join(shares)} | {bounds} | {each['n']:,} |")
    return lines


def _limitations(report: Report) -> list[str]:
    tried = "; ".join(_attack(attack) for attack in report["attacks"])
    lines = [
        "- Attacks search, they don't prove: a stronger one may find more.",
        f"- Nothing is known about tampering that no attack tried. Tried: {plain(tried)}.",
        "- One training with one seed: another may end some points higher or lower.",
    ]
    if report.get("reduced"):
        lines.append(f"- Reduced run ({plain(report['reduced'])}): not the full result.")
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


def _how_to_repeat(report: Report) -> list[str]:
    if "environment" not in report:
        return []
    command = shown_command(report["environment"]["command"])
    return [
        "The command was:",
        "",
        *(f"    {line}" for line in command.splitlines()),
        "",
        "The same settings, whole and resolved, are in `config.json` of the run folder:",
        "`keras-srt train --config RUN/config.json --run-dir NEW` trains anew by them, and",
        "`keras-srt evaluate --run RUN` evaluates again. With the same versions, machine and "
        "number of threads the results are the same.",
    ]
