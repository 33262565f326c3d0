"""Sentences that describe a run: data, training, teacher, evaluated model, risks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_srt.core.formatting import format_duration, format_number, format_percent
from keras_srt.report.rows import Report

# Key in the report, symbol, meaning; in the order of eq. (6).
RISKS = (
    ("standard", "R_stand", "misclassified without perturbation"),
    ("robust", "R_rob", "prediction changes under attack, whether it was correct or not"),
    ("adversarial", "R_adv", "misclassified without perturbation or under attack"),
)
BOUND_NOTE = "For each image, R_adv = R_stand + (1 - R_stand) * R_rob (eq. 6 of the paper)."


def reduced_note(report: Report) -> str:
    """The note that marks a run smaller than the reference run; empty for a full run."""
    return f"Reduced run: {report['reduced']}" if report.get("reduced") else ""


def balanced_line(report: Report) -> str:
    """Describe the balanced accuracy and the worst class; empty for a report without classes."""
    if "balanced" not in report:
        return ""
    balanced, worst = report["balanced"], report["worst_class"]
    parts = [
        f"{format_percent(balanced[kind])}% {title} (worst class {worst[kind]['name']}: "
        f"{format_percent(worst[kind]['accuracy'])}%, n={worst[kind]['n']:,})"
        for kind, title in (("clean", "clean"), ("worst_case", "worst case"))
    ]
    return f"Balanced accuracy, the mean over the classes: {'; '.join(parts)}"


def summary(report: Report) -> list[str]:
    """Describe data and training, one sentence per topic; only the data without training."""
    topics = [_dataset_text(report["dataset"])]
    if "objective" in report:
        topics += [_training_text(report), _neighborhood_text(report["neighborhood"])]
    if "teacher" in report:
        topics.append(_teacher_text(report["teacher"]))
    if "victim" in report:
        topics += [_external_model_text(report["victim"]), *report["victim"]["warnings"]]
    return topics


def _dataset_text(dataset: Mapping[str, Any]) -> str:
    labels = {
        "labeled": "labeled",
        "unlabeled": "unlabeled",
        "validation": "validation",
        "num_test": "test",
    }
    counts = [f"{dataset[key]:,} {text}" for key, text in labels.items() if key in dataset]
    counts.append(f"from a training split of {dataset['num_train']:,}")
    if "skipped" in dataset:
        counts.append(f"{dataset['skipped']['count']:,} unreadable files skipped")
    return f"{dataset['title']}: {', '.join(counts)}"


def _training_text(report: Report) -> str:
    objective = report["objective"]
    settings = ", ".join(
        f"{key} {format_number(value)}"
        for key, value in objective.items()
        if key != "name" and isinstance(value, int | float | str)
    )
    parts = [f"Objective {objective['name']} ({settings})", f"model {report['model']['name']}"]
    if report.get("steps") is not None:
        of = f" of {report['planned_steps']:,} planned" if "planned_steps" in report else ""
        parts.append(f"{report['steps']:,}{of} steps")
    if report.get("train_seconds") is not None:
        parts.append(f"trained for {format_duration(report['train_seconds'])}")
    return ", ".join(parts)


def _teacher_text(teacher: Mapping[str, Any]) -> str:
    return (
        f"Teacher: objective {teacher['objective']} on {teacher['labeled']:,} labeled images, "
        f"{teacher['steps']:,} steps, trained for {format_duration(teacher['train_seconds'])}, "
        f"validation accuracy {format_percent(teacher['val_accuracy'])}% at step "
        f"{teacher['best_step']:,}; pseudo-labels for {teacher['pseudo_labeled']:,} unlabeled "
        "images"
    )


def _external_model_text(model: Mapping[str, Any]) -> str:
    outputs = model["answers"]
    if outputs == "probabilities":
        outputs += ", whose logarithms are attacked"
    if model.get("removed_activation"):
        outputs += f" after its last {model['removed_activation']} is removed"
    possible = "with gradients: all attacks are possible"
    if not model["gradients"]:
        possible = f"without gradients: possible attacks are {', '.join(model['attacks'])}"
    conversions = "".join(f"; {line}" for line in model.get("conversions", ()))
    return f"External model: {model['kind']} that outputs {outputs}; {possible}{conversions}"


def _neighborhood_text(neighborhood: Mapping[str, Any]) -> str:
    parts = (neighborhood["type"], neighborhood["order"], neighborhood["range"])
    return f"Perturbed neighborhood: {'; '.join(parts)}"
