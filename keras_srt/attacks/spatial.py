"""Random and grid search over rotations and translations, with queries only."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import field
from typing import Annotated, ClassVar

import numpy as np
from typing_extensions import override

from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.candidate_table import candidate_table
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

    With `TargetModel.rounding`, most transforms are tried in bfloat16, with the same success.
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
        # Candidate 0 is the image itself.
        points = np.concatenate([np.zeros_like(points[:1]), points])
        points = np.broadcast_to(points, (len(points), len(images), 3))

        def transform(candidates: np.ndarray, rows: np.ndarray) -> np.ndarray:
            if not candidates.any():
                return images[rows]
            chosen = points[candidates, rows]
            return apply(tf.constant(images[rows]), tf.constant(chosen)).numpy()

        table = candidate_table(model, criterion, transform, len(points))
        table.ask(np.arange(1), np.arange(len(images)))
        first = 1
        while first < len(points) and not table.success.all():
            active = np.flatnonzero(~table.success)
            together = max(1, min(first - 1, model.batch_size // len(active)))
            chosen = np.arange(len(points))[first : first + together]
            table.ask(chosen, active)
            first += len(chosen)
            unsuccessful = np.mean(~table.success)
            model.progress.report(1 - unsuccessful * (1 - first / len(points)))
        worst, rows = table.worst(), np.arange(len(images))
        return AttackResult(transform(worst, rows), points[worst, rows], table.success)

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
