"""Random and grid search over rotations and translations, with queries only."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import field
from typing import Annotated, ClassVar

import numpy as np
from typing_extensions import override

from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.target_model import QueryModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Spatial
from keras_srt.neighborhoods.draws import fold

# Number of points of translation right, translation down and rotation.
GridShape = tuple[
    Annotated[int, validation.whole(1)],
    Annotated[int, validation.whole(1)],
    Annotated[int, validation.whole(1)],
]


class SpatialSearch(Attack):
    """Base class of attacks that try transforms on each image until one is adversarial.

    The largest transforms come first because they succeed most often. An image drops out after a
    success. The fewer images remain, the more transforms share a query, so that queries stay
    full; but never more than the number tried so far, so that early successes cost few queries.
    The success is the same as that of trying all transforms on all images.
    """

    needs_gradients: ClassVar[bool] = False

    max_rotation: float
    max_translation: float

    @property
    @override
    @abstractmethod
    def neighborhood(self) -> Spatial: ...

    @abstractmethod
    def candidates(self, images: np.ndarray, seed: tf.Tensor) -> np.ndarray:
        """Transforms to try, float32 [candidates, n or 1, 3]: degrees, pixels, pixels."""

    @override
    def search(
        self, model: QueryModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        apply = model.traced(self.neighborhood.apply)
        points = self._largest_first(self.candidates(images, seed))
        points = np.broadcast_to(points, (len(points), len(images), 3))
        worst, parameters = np.array(images), np.zeros((len(images), 3), np.float32)
        start = model.predictions(images, criterion)
        highest, success = np.array(start.loss), criterion.is_adversarial(start.classes)
        first = 0
        while first < len(points) and not success.all():
            active = np.flatnonzero(~success)
            together = max(1, min(first, model.batch_size // len(active)))
            chosen = points[first : first + together, active]
            transformed = apply(
                tf.constant(np.tile(images[active], (len(chosen), 1, 1, 1))),
                tf.constant(chosen.reshape(-1, 3)),
            ).numpy()
            predictions = model.predictions(transformed, criterion[active].repeated(len(chosen)))
            loss = predictions.loss.reshape(len(chosen), -1)
            adversarial = criterion[active].is_adversarial(
                predictions.classes.reshape(len(chosen), -1)
            )
            # The highest loss among the adversarial ones or, without any, among all.
            best = np.lexsort((loss, adversarial), axis=0)[-1]
            column = np.arange(len(active))
            better = adversarial[best, column] | (loss[best, column] > highest[active])
            changed, row = active[better], (best * len(active) + column)[better]
            worst[changed], parameters[changed] = transformed[row], chosen.reshape(-1, 3)[row]
            highest[changed] = predictions.loss[row]
            success[active] = adversarial[best, column]
            first += len(chosen)
            model.progress.report(1 - np.mean(~success) * (1 - first / len(points)))
        return AttackResult(worst, parameters, success)

    def _largest_first(self, candidates: np.ndarray) -> np.ndarray:
        limits = np.maximum(self.neighborhood.limits, 1e-6)
        size = np.abs(candidates / limits).sum(axis=-1)
        order = np.argsort(-size, axis=0, kind="stable")
        return np.take_along_axis(candidates, order[..., None], axis=0)


class _GridSearch(SpatialSearch):
    """Search over an even grid of transforms."""

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int, int]:
        """Number of points of translation right, translation down and rotation."""

    @property
    @override
    def neighborhood(self) -> Spatial:
        return Spatial(
            max_rotation=self.max_rotation,
            max_translation=self.max_translation,
            search="grid",
            grid=self.grid,
        )

    @override
    def candidates(self, images: np.ndarray, seed: tf.Tensor) -> np.ndarray:
        return self.neighborhood.grid_points()[:, None]


class _RandomSearch(SpatialSearch):
    """Search over uniform random transforms, drawn for each image separately."""

    num_samples: int

    @property
    @override
    def neighborhood(self) -> Spatial:
        return Spatial(
            max_rotation=self.max_rotation,
            max_translation=self.max_translation,
            num_samples=self.num_samples,
        )

    @override
    def candidates(self, images: np.ndarray, seed: tf.Tensor) -> np.ndarray:
        space = self.neighborhood
        draws = [space.sample(images, fold(seed, k)) for k in range(self.num_samples)]
        return np.stack([draw.numpy() for draw in draws])


@component
class GridAdv(_GridSearch):
    """Grid search over translations and rotations.

    Source: Engstrom et al. 2019; 5×5×31 = 775 transforms in the paper.

    Args:
        max_rotation: Largest rotation in degrees.
        max_translation: Largest translation in pixels.
        grid: Number of points of translation right, translation down and rotation.

    Example:
        >>> GridAdv().neighborhood.solver.num_candidates
        775
    """

    name: ClassVar[str] = "gridadv"

    max_rotation: Annotated[float, validation.real(0, 180)] = field(default=30.0, kw_only=False)
    max_translation: Annotated[float, validation.real(0)] = 3.0
    grid: GridShape = (5, 5, 31)


@component
class GridAdvR(_GridSearch):
    """Grid search over rotations (GridAdv.R).

    Args:
        max_rotation: Largest rotation in degrees.
        points: Number of rotations.

    Example:
        >>> GridAdvR().neighborhood.solver.num_candidates
        31
    """

    name: ClassVar[str] = "gridadv_r"

    max_rotation: Annotated[float, validation.real(0, 180)] = field(default=30.0, kw_only=False)
    points: Annotated[int, validation.whole(1)] = 31

    max_translation = 0.0

    @property
    @override
    def grid(self) -> tuple[int, int, int]:
        return (1, 1, self.points)


@component
class GridAdvT(_GridSearch):
    """Grid search over translations (GridAdv.T).

    Args:
        max_translation: Largest translation in pixels.
        points: Number of translations in each direction.

    Example:
        >>> GridAdvT().neighborhood.solver.num_candidates
        25
    """

    name: ClassVar[str] = "gridadv_t"

    max_translation: Annotated[float, validation.real(0)] = field(default=3.0, kw_only=False)
    points: Annotated[int, validation.whole(1)] = 5

    max_rotation = 0.0

    @property
    @override
    def grid(self) -> tuple[int, int, int]:
        return (self.points, self.points, 1)


@component
class RandAdv(_RandomSearch):
    """Worst of k random rotations and translations.

    Source: Engstrom et al. 2019.

    Args:
        max_rotation: Largest rotation in degrees.
        max_translation: Largest translation in pixels.
        num_samples: k.

    Example:
        >>> RandAdv().num_samples
        10
    """

    name: ClassVar[str] = "randadv"

    max_rotation: Annotated[float, validation.real(0, 180)] = field(default=30.0, kw_only=False)
    max_translation: Annotated[float, validation.real(0)] = 3.0
    num_samples: Annotated[int, validation.whole(1)] = 10


@component
class RandAdvR(_RandomSearch):
    """Worst of k random rotations (RandAdv.R).

    Args:
        max_rotation: Largest rotation in degrees.
        num_samples: k.

    Example:
        >>> RandAdvR().max_translation
        0.0
    """

    name: ClassVar[str] = "randadv_r"

    max_rotation: Annotated[float, validation.real(0, 180)] = field(default=30.0, kw_only=False)
    num_samples: Annotated[int, validation.whole(1)] = 10

    max_translation = 0.0


@component
class RandAdvT(_RandomSearch):
    """Worst of k random translations (RandAdv.T).

    Args:
        max_translation: Largest translation in pixels.
        num_samples: k.

    Example:
        >>> RandAdvT().max_rotation
        0.0
    """

    name: ClassVar[str] = "randadv_t"

    max_translation: Annotated[float, validation.real(0)] = field(default=3.0, kw_only=False)
    num_samples: Annotated[int, validation.whole(1)] = 10

    max_rotation = 0.0
