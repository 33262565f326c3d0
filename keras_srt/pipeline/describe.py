"""Plans, costs and exports in words for the terminal."""

from __future__ import annotations

import math

from keras_srt.core import processor
from keras_srt.core.formatting import format_duration, format_number
from keras_srt.core.registry import settings_of
from keras_srt.exporters.export import ExportResult
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.cost import StepTime, teacher_seconds, training_seconds
from keras_srt.pipeline.plan import Plan


def describe_config(context: RunContext) -> str:
    """Describe a run's data, threat, objective and model in lines for people."""
    config, plan, info = context.config, context.plan, context.info
    settings = settings_of(config.objective)
    given = ", ".join(f"{key} {format_number(value)}" for key, value in settings.items() if value)
    lines = {
        "config": f"{config.name} (all settings: --json)",
        "dataset": f"{info.title}: {info.num_train:,} training images ({plan.num_labeled:,} "
        f"labeled, {plan.num_unlabeled:,} unlabeled, {plan.num_validation:,} validation), "
        f"{info.num_test:,} test images of {' x '.join(map(str, info.input_shape))}",
        "memory": _describe_memory(context),
        **(config.neighborhood.describe() if config.neighborhood is not None else {}),
        "objective": given.removeprefix("name "),
        "model": f"{config.model.name}, {context.model.classifier.count_params():,} parameters",
    }
    return "\n".join(f"{key:<9} {value}" for key, value in lines.items())


def _describe_memory(context: RunContext) -> str:
    if context.config.data.shuffle_buffer is not None:
        return f"a buffer of {context.config.data.shuffle_buffer:,} images"
    images = math.prod(context.info.input_shape) * context.info.num_train
    return f"{images / 1e6:,.0f} MB of training images, beside TensorFlow and the model"


def describe_processor() -> str:
    """Describe what makes this machine's processor fast, and what precision "auto" is here."""
    instructions = processor.bfloat16_instructions() or "no bfloat16 instructions"
    return f'processor {instructions}: precision "auto" is {processor.fast_precision()}'


def describe_cost(plan: Plan, step: StepTime) -> str:
    """Describe the cost of a training: batches, image passes, steps and time.

    Args:
        plan: The run's plan.
        step: A timed step.
    """
    sizes, passes = plan.sizes, plan.passes
    total = format_duration(training_seconds(plan, step))
    timed = f", timed on {step.timed_on} images" if step.timed_on < sum(sizes) else ""
    most = " with the full search" * bool(plan.growth_steps)
    most += " of all layers" * bool(plan.freeze_steps)
    saved, rest = "checkpoint", "evaluation"
    if plan.num_validation:
        saved, rest = "validation", "validation and evaluation"
    average = f"{most}, {100 * plan.cost_ratio:.0f}% of that on average" if most else ""
    lines = [
        f"batch     {sizes.labeled} labeled + {sizes.unlabeled} unlabeled images "
        f"(of {plan.num_labeled:,} and {plan.num_unlabeled:,})",
        f"step      {passes.forward:,} forward, {passes.gradient:,} forward + input-gradient, "
        f"{passes.training:,} training image passes",
        f"training  {plan.steps:,} steps = {plan.steps * plan.labeled_passes:.1f} passes over "
        f"the labeled images, {saved} every {plan.interval:,} steps",
        *_describe_phases(plan),
        f"time      about {total} of training on this machine "
        f"({step.seconds:.2f} s a step{timed}{average}), plus {rest}",
    ]
    if plan.teacher is not None:
        lines.insert(0, _describe_teacher(plan, step))
    return "\n".join(lines)


def _describe_phases(plan: Plan) -> list[str]:
    lines = []
    if plan.freeze_steps:
        lines.append(f"freeze    the first {plan.freeze_steps:,} steps train only the last layer")
    if plan.patience is not None:
        after = f" after step {plan.grown_step:,}" if plan.grown_step else ""
        lines.append(f"stop      early after {plan.patience} validations without gain{after}")
    return lines


def _describe_teacher(plan: Plan, step: StepTime) -> str:
    steps: list[str] = []
    teacher = plan.teacher
    while teacher is not None:
        steps.insert(0, f"{teacher.steps:,}")
        teacher = teacher.teacher
    return (
        f"teacher   {' + '.join(steps)} steps first, without a search: about "
        f"{format_duration(teacher_seconds(plan, step))}; then it labels {plan.num_unlabeled:,} "
        "images"
    )


def describe_export(exported: ExportResult) -> str:
    """Describe exported files: their folders and their largest difference from Keras."""
    files = ", ".join(f"{f.name} {f.difference:.1e}" for f in exported.tflite_files if f.published)
    lines = [
        f"SavedModel  {exported.savedmodel} (probabilities within "
        f"{exported.savedmodel_difference:.1e} of Keras)",
        f"TFLite      {exported.tflite} (within {files})",
    ]
    if exported.pruned:
        lines.append(f"removed     versions {', '.join(map(str, exported.pruned))}")
    lines += [
        f"warning: no {file.name} file: it predicts the class of the Keras model for only "
        f"{file.share:.0%} of the images"
        for file in exported.tflite_files
        if not file.published
    ]
    return "\n".join(lines)
