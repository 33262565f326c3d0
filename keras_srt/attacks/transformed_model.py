"""A model that sees every image through one transform, so that attacks go through it, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_srt.attacks.attack_losses import AttackLoss, cross_entropy
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.target_model import Answers, TargetModel
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Spatial


class TransformedModel(TargetModel):
    """x ↦ f(A(θ)x + B) for one θ and B, with its gradients; the model inside counts queries.

    Args:
        model: f.
        space: the transforms.
        point: float32 [3]: degrees, pixels right, pixels down.

    Example:
        >>> one_row = TargetModel(lambda x: tf.reshape(x, [-1, 3]))
        >>> right = TransformedModel(one_row, Spatial(), np.float32([0, 1, 0]))
        >>> right.logits(np.float32([[[[1], [2], [3]]]]))
        array([[0., 1., 2.]], dtype=float32)
    """

    def __init__(self, model: TargetModel, space: Spatial, point: np.ndarray) -> None:
        super().__init__(model.logits, model.batch_size)
        self._target_model, self._space, self._point = model, space, point

    def traced(self, function: Callable[..., Any], key: Any = None) -> Callable[..., Any]:
        """See `TargetModel.traced`; kept by the model inside, beyond this transform."""
        return self._target_model.traced(function, key)

    def repeated(self, times: int) -> np.ndarray:
        """The transform for that many images: float32 [times, 3]."""
        return np.tile(self._point, (times, 1))

    def seen(self, images: np.ndarray) -> np.ndarray:
        """The images as the model sees them."""
        return self._space.apply(tf.constant(images), self.repeated(len(images))).numpy()

    def logits(self, images: np.ndarray) -> np.ndarray:
        """See `TargetModel.logits`."""
        return self._target_model.logits(self.seen(images))

    def answers(self, images: np.ndarray, criterion: Criterion) -> Answers:
        """See `TargetModel.answers`."""
        return self._target_model.answers(self.seen(images), criterion)

    def gradient(
        self, images: np.ndarray, criterion: Criterion, loss: AttackLoss = cross_entropy
    ) -> tuple[Answers, np.ndarray]:
        """See `TargetModel.gradient`."""
        answers, gradient = self._target_model.gradient(self.seen(images), criterion, loss)
        return answers, self._back(images, gradient)

    def pullback(self, images: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `TargetModel.pullback`."""
        logits, gradient = self._target_model.pullback(self.seen(images), weights)
        return logits, self._back(images, gradient)

    def _back(self, images: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """The gradient at the transformed images, brought back to the images."""
        pictures = tf.constant(images)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(pictures)
            moved = self._space.apply(pictures, self.repeated(len(images)))
        return tape.gradient(moved, pictures, output_gradients=tf.constant(gradient)).numpy()
