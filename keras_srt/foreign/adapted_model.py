"""A third-party classifier as images in [0, 1] -> logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from keras_srt.core.tensorflow import tf
from keras_srt.foreign.opened_model import OpenedModel


@dataclasses.dataclass(frozen=True)
class AdaptedModel:
    """A third-party classifier: float32 images [batch, height, width, channels] -> logits.

    Attributes:
        opened: The model as it was saved.
        function: Images in [0, 1], a float32 tensor -> logits, float32 [batch, classes].
        input_shape: (None, height, width, channels).
        output_shape: (None, classes).
        outputs: The outputs of the model from which the logits are made, one of
            `model_options.OUTPUTS`.
        conversions: What is done to images and outputs, one line each.
        is_range_assumed: Whether [0, 1] is assumed, as the model does not define its range.
        is_multi_label: Whether the outputs are a sigmoid for each of several classes.
    """

    opened: OpenedModel
    function: Callable[[tf.Tensor], tf.Tensor]
    input_shape: tuple[int | None, ...]
    output_shape: tuple[int | None, ...]
    outputs: str
    conversions: tuple[str, ...]
    is_range_assumed: bool = False
    is_multi_label: bool = False

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Compute logits in inference mode.

        Args:
            images: float32 [batch, height, width, channels] in [0, 1].
            training: Ignored; for callers of Keras models.
        """
        return self.function(images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images."""
        height, width, channels = (int(size or 0) for size in self.input_shape[1:])
        return height, width, channels

    @property
    def variables(self) -> list[Any]:
        """The variables of the model."""
        if self.opened.variables is not None:
            return list(self.opened.variables)
        spec = tf.TensorSpec(self.input_shape, tf.float32)
        traced = tf.function(self.function, autograph=False).get_concrete_function(spec)
        return list(traced.graph.variables)

    def check_exportable(self) -> None:
        """Check that the model can be written as a SavedModel.

        Raises:
            UserError: It is a TFLite file, which no graph can contain.
        """
        if not self.opened.in_graph:
            raise self.opened.refused(
                "a TFLite file can't be exported or served; allowed: the .keras file or the "
                "SavedModel that it was made of"
            )

    def check_distribution(self) -> None:
        """Check that softmax(logits) are the probabilities of the model.

        Raises:
            UserError: The model ends with several sigmoids, one for each class.
        """
        if self.is_multi_label:
            raise self.opened.refused(
                f"ends with {self.output_shape[-1]} sigmoids, which are no distribution over the "
                "classes; allowed here: a softmax, or one sigmoid for two classes; evaluate "
                "accepts it"
            )
