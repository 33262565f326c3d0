"""Attacks by search over rotations and translations; they use the model's answers alone."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import field
from typing import Annotated, ClassVar

import numpy as np

from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.target_model import TargetModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Spatial
from keras_srt.neighborhoods.draws import fold

# Points of translation right, translation down and rotation.
GridShape = tuple[
    Annotated[int, validation.whole(1)],
    Annotated[int, validation.whole(1)],
    Annotated[int, validation.whole(1)],
]


class SpatialSearch(Attack):
    """Tries transforms on each image until one fools the model.

    The most extreme candidates come first, because they fool most. An image that is
    fooled drops out; the fewer are left, the more transforms go into one query, so that
    queries stay full, but never more than it has been asked about before: what fools at once
    is seldom asked in vain. The verdict is that of trying all transforms on all images.
    """

    needs_gradients: ClassVar[bool] = False

    max_rotation: float
    max_translation: float

    @property
    @abstractmethod
    def neighborhood(self) -> Spatial:
        """Rotations and translations."""

    @abstractmethod
    def candidates(self, images: np.ndarray, seed: tf.Tensor) -> np.ndarray:
        """Transforms, float32 [candidates, batch or 1, 3]: degrees, pixels, pixels."""

    def run(
        self, target_model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        """See `Attack.run`; among the transforms of a query that fool, the worst is taken."""
        apply = target_model.traced(self.neighborhood.apply)
        tried = self._extreme_first(self.candidates(images, seed))
        tried = np.broadcast_to(tried, (len(tried), len(images), 3))
        found, parameters = np.array(images), np.zeros((len(images), 3), np.float32)
        start = target_model.answers(images, criterion)
        highest, fooled = np.array(start.loss), criterion.is_adversarial(start.classes)
        first = 0
        while first < len(tried) and not fooled.all():
            active = np.flatnonzero(~fooled)
            together = max(1, min(first, target_model.batch_size // len(active)))
            chosen = tried[first : first + together, active]
            moved = apply(
                tf.constant(np.tile(images[active], (len(chosen), 1, 1, 1))),
                tf.constant(chosen.reshape(-1, 3)),
            ).numpy()
            answers = target_model.answers(moved, criterion[active].repeated(len(chosen)))
            loss = answers.loss.reshape(len(chosen), -1)
            wrong = criterion[active].is_adversarial(answers.classes.reshape(len(chosen), -1))
            # Those that fool come before those that don't, then the highest loss.
            best = np.lexsort((loss, wrong), axis=0)[-1]
            column = np.arange(len(active))
            better = wrong[best, column] | (loss[best, column] > highest[active])
            changed, row = active[better], (best * len(active) + column)[better]
            found[changed], parameters[changed] = moved[row], chosen.reshape(-1, 3)[row]
            highest[changed] = answers.loss[row]
            fooled[active] = wrong[best, column]
            first += len(chosen)
        return AttackResult(found, parameters, fooled)

    def _extreme_first(self, candidates: np.ndarray) -> np.ndarray:
        limits = np.maximum(self.neighborhood.limits, 1e-6)
        size = np.abs(candidates / limits).sum(axis=-1)
        order = np.argsort(-size, axis=0, kind="stable")
        return np.take_along_axis(candidates, order[..., None], axis=0)


class _GridSearch(SpatialSearch):
    """All transforms of an even grid."""

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int, int]:
        """Points of translation right, translation down and rotation."""

    @property
    def neighborhood(self) -> Spatial:
        """Rotations and translations, with the grid as their search."""
        return Spatial(
            max_rotation=self.max_rotation,
            max_translation=self.max_translation,
            search="grid",
            grid=self.grid,
        )

    def candidates(self, images: np.ndarray, seed: tf.Tensor) -> np.ndarray:
        """The grid, the same for every image."""
        return self.neighborhood.grid_points()[:, None]


class _RandomSearch(SpatialSearch):
    """Random transforms, each image its own."""

    num_samples: int

    @property
    def neighborhood(self) -> Spatial:
        """Rotations and translations, with random draws as their search."""
        return Spatial(
            max_rotation=self.max_rotation,
            max_translation=self.max_translation,
            num_samples=self.num_samples,
        )

    def candidates(self, images: np.ndarray, seed: tf.Tensor) -> np.ndarray:
        """Uniform draws."""
        space = self.neighborhood
        draws = [space.sample(images, fold(seed, k)) for k in range(self.num_samples)]
        return np.stack([draw.numpy() for draw in draws])


@component
class GridAdv(_GridSearch):
    """Grid search over translations and rotations.

    Source: Engstrom et al. 2019; 5×5×31 = 775 transforms in the paper.

    Args:
        max_rotation: degrees.
        max_translation: pixels.
        grid: points of translation right, translation down and rotation.

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
    """Grid search over rotations alone (GridAdv.R).

    Args:
        max_rotation: degrees.
        points: rotations of the grid.

    Example:
        >>> GridAdvR().neighborhood.solver.num_candidates
        31
    """

    name: ClassVar[str] = "gridadv_r"

    max_rotation: Annotated[float, validation.real(0, 180)] = field(default=30.0, kw_only=False)
    points: Annotated[int, validation.whole(1)] = 31

    max_translation = 0.0

    @property
    def grid(self) -> tuple[int, int, int]:
        """No translations."""
        return (1, 1, self.points)


@component
class GridAdvT(_GridSearch):
    """Grid search over translations alone (GridAdv.T).

    Args:
        max_translation: pixels.
        points: of the grid in each direction.

    Example:
        >>> GridAdvT().neighborhood.solver.num_candidates
        25
    """

    name: ClassVar[str] = "gridadv_t"

    max_translation: Annotated[float, validation.real(0)] = field(default=3.0, kw_only=False)
    points: Annotated[int, validation.whole(1)] = 5

    max_rotation = 0.0

    @property
    def grid(self) -> tuple[int, int, int]:
        """No rotations."""
        return (self.points, self.points, 1)


@component
class RandAdv(_RandomSearch):
    """The worst of k random rotations and translations.

    Source: Engstrom et al. 2019.

    Args:
        max_rotation: degrees.
        max_translation: pixels.
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
    """The worst of k random rotations (RandAdv.R).

    Args:
        max_rotation: degrees.
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
    """The worst of k random translations (RandAdv.T).

    Args:
        max_translation: pixels.
        num_samples: k.

    Example:
        >>> RandAdvT().max_rotation
        0.0
    """

    name: ClassVar[str] = "randadv_t"

    max_translation: Annotated[float, validation.real(0)] = field(default=3.0, kw_only=False)
    num_samples: Annotated[int, validation.whole(1)] = 10

    max_rotation = 0.0
