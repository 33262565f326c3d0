"""Train the classifier of a run, and first its teacher if the objective has one."""

from __future__ import annotations

import contextlib

from keras_srt.core.tensorflow import tf
from keras_srt.data import translate_read_errors
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.data import load_training_data
from keras_srt.pipeline.processor_turn import processor_turn
from keras_srt.pipeline.teacher import apply_teacher
from keras_srt.pipeline.training_loop import is_trained, train_classifier
from keras_srt.pipeline.workers import watched


def train(context: RunContext, *, wait: bool = False) -> None:
    """Train from the start or the last checkpoint, and save the best classifier.

    Args:
        context: The run.
        wait: Whether to wait for another training on the processors of this machine.

    Raises:
        UserError: The dataset, the split, pseudo-labels or a checkpoint can't be used.
        NotFinite: A loss or a weight isn't finite, and the config allows no (more) rollback.
        Interrupted: Training was interrupted; its state is saved.
    """
    on_processors = not tf.config.list_physical_devices("GPU")
    if on_processors:
        # For equal results from equal seeds, at no measurable cost on CPUs.
        tf.config.experimental.enable_op_determinism()
    streamed = context.config.data.shuffle_buffer is not None
    takes_turn = on_processors and context.distribution.task.count == 1
    takes_turn = takes_turn and not is_trained(context.folder, context.plan)
    with (
        context.folder.writing(),
        processor_turn(context.folder.path, wait) if takes_turn else contextlib.nullcontext(),
        watched(context.distribution.task, context.folder),
        translate_read_errors() if streamed else contextlib.nullcontext(),
    ):
        train_classifier(context, lambda: apply_teacher(context, load_training_data(context)))
        context.distribution.check_agreement("done")
