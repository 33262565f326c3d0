"""A target model behind a fixed spatial transform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from typing_extensions import override

from keras_srt.attacks.attack_losses import AttackLoss, cross_entropy
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.target_model import Predictions, TargetModel
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Spatial


class TransformedModel(TargetModel):
    """x ↦ f(A(θ)x + B) for one θ and B, with gradients; f counts the queries.

    Args:
        model: f.
        space: Neighborhood that applies the transform.
        point: The transform, float32 [3]: degrees, pixels right, pixels down.

    Example:
        >>> model = TargetModel(lambda x: tf.reshape(x, [-1, 3]))
        >>> shifted = TransformedModel(model, Spatial(), np.float32([0, 1, 0]))
        >>> shifted.logits(np.float32([[[[1], [2], [3]]]]))
        array([[0., 1., 2.]], dtype=float32)
    """

    def __init__(self, model: TargetModel, space: Spatial, point: np.ndarray) -> None:
        super().__init__(model.logits, model.batch_size)
        self._model, self._space, self._point = model, space, point
        self.progress = model.progress

    @override
    def traced(self, function: Callable[..., Any], key: Any = None) -> Callable[..., Any]:
        # f keeps the graphs: they outlive this transform.
        return self._model.traced(function, key)

    @override
    def num_classes(self, images: np.ndarray) -> int | None:
        return self._model.num_classes(images)

    def repeated(self, times: int) -> np.ndarray:
        """Transform of each of that many images, float32 [times, 3]."""
        return np.tile(self._point, (times, 1))

    def transform(self, images: np.ndarray) -> np.ndarray:
        """A(θ)x + B of each image."""
        return self._space.apply(tf.constant(images), self.repeated(len(images))).numpy()

    @override
    def logits(self, images: np.ndarray) -> np.ndarray:
        return self._model.logits(self.transform(images))

    @override
    def predictions(
        self, images: np.ndarray, criterion: Criterion, loss: AttackLoss = cross_entropy
    ) -> Predictions:
        return self._model.predictions(self.transform(images), criterion, loss)

    @override
    def gradient(
        self, images: np.ndarray, criterion: Criterion, loss: AttackLoss = cross_entropy
    ) -> tuple[Predictions, np.ndarray]:
        predictions, gradient = self._model.gradient(self.transform(images), criterion, loss)
        return predictions, self._backpropagate(images, gradient)

    @override
    def pullback(self, images: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, gradient = self._model.pullback(self.transform(images), weights)
        return logits, self._backpropagate(images, gradient)

    def _backpropagate(self, images: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Propagate a gradient from the transformed images back to the images."""
        originals = tf.constant(images)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(originals)
            transformed = self._space.apply(originals, self.repeated(len(images)))
        return tape.gradient(transformed, originals, output_gradients=tf.constant(gradient)).numpy()
