"""Composite attacks: the stages of a composite neighborhood in order; PGD+ and GridAdv+."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator
from typing_extensions import override

from keras_srt.attacks.base import Attack, AttackResult, composite_of, run_in_sequence
from keras_srt.attacks.color import ColorAttack
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.damage import DamageAttack
from keras_srt.attacks.gradient import PGD
from keras_srt.attacks.noise import NoiseAttack
from keras_srt.attacks.pixel_dropout import PixelDropoutAttack
from keras_srt.attacks.running_worst_case import RunningWorstCase
from keras_srt.attacks.spatial import GridAdv, GridShape, RandAdv
from keras_srt.attacks.target_model import TargetModel
from keras_srt.attacks.transformed_model import TransformedModel
from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods import Composite, LInf, Neighborhood, Spatial
from keras_srt.neighborhoods.composite import build_stages
from keras_srt.neighborhoods.draws import fold


def _pgd(ball: Any, restarts: int) -> PGD:
    return PGD(
        epsilon=ball.epsilon,
        norm_ball=ball.name,
        num_steps=ball.num_steps,
        step_size=ball.step_size,
        random_start=ball.random_start is not False,
        restarts=restarts,
    )


def _spatial(space: Any, restarts: int) -> GridAdv | RandAdv:
    limits = {"max_rotation": space.max_rotation, "max_translation": space.max_translation}
    if space.search == "grid":
        return GridAdv(**limits, grid=space.grid)
    return RandAdv(**limits, num_samples=space.num_samples)


def _color(space: Any, restarts: int) -> ColorAttack:
    names = ("max_hue", "max_saturation", "max_gray", "max_contrast", "max_brightness", "per")
    settings = {name: getattr(space, name) for name in (*names, "num_samples", "num_steps")}
    return ColorAttack(**settings, step_size=space.step_size, restarts=restarts)


def _noise(space: Any, restarts: int) -> NoiseAttack:
    return NoiseAttack(space.epsilon, sigma=space.sigma, num_samples=space.num_samples * restarts)


def _dropout(space: Any, restarts: int) -> PixelDropoutAttack:
    return PixelDropoutAttack(
        space.share, num_samples=space.num_samples * restarts, num_steps=space.num_steps
    )


def _damage(space: Any, restarts: int) -> DamageAttack:
    return DamageAttack(space.share, kinds=space.kinds, num_samples=space.num_samples * restarts)


# Share of the progress that the search in sequence counts for before a joint one.
_SEQUENTIAL_SHARE = 0.1

# The attack on each kind of stage, with the stage's settings.
_ATTACKS: dict[str, Callable[[Any, int], Attack]] = {
    "linf": _pgd,
    "l2": _pgd,
    "spatial": _spatial,
    "color": _color,
    "noise": _noise,
    "pixel_dropout": _dropout,
    "damage": _damage,
}


class _CompositeSearch(Attack):
    """Base class of attacks that search the stages of a composite neighborhood."""

    restarts: int
    mode: str

    @property
    @abstractmethod
    def composite(self) -> Composite:
        """The stages with the settings of their searches."""

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """The attack on each stage, in the order of application."""
        stages = self.composite.stages_in_order
        return tuple(_ATTACKS[stage.name](stage, self.restarts) for stage in stages)

    @property
    @override
    def neighborhood(self) -> Composite:
        return composite_of(self.attacks)

    @override
    def search(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        if self.mode == "sequential":
            return run_in_sequence(self.attacks, model, images, criterion, seed)
        with model.progress.part(0.0, _SEQUENTIAL_SHARE):
            result = run_in_sequence(self.attacks, model, images, criterion, seed)
        with model.progress.part(_SEQUENTIAL_SHARE, 1.0):
            return self._search_jointly(model, images, criterion, result, seed)

    def _search_jointly(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        start: AttackResult,
        seed: tf.Tensor,
    ) -> AttackResult:
        """Run the other attacks on surviving images for each transform, the largest first."""
        both, attacks = self.neighborhood, self.attacks
        outer, space = _first_spatial(both)
        worst = RunningWorstCase(
            model.predictions(start.images, criterion), criterion, *start.parameters
        )
        points = _transforms(space, fold(seed, outer))
        points = points[np.argsort(-space.relative_size(points), kind="stable")]
        for number, point in enumerate(model.progress.each(list(points))):
            active = worst.active
            if not len(active):
                break
            originals, aim = images[active], criterion[active]
            transformed = TransformedModel(model, space, point)
            draw = fold(seed, len(attacks) + number)
            before = _run(attacks[:outer], transformed, originals, aim, draw)
            moved = transformed.transform(before.images)
            after = _run(attacks[outer + 1 :], model, moved, aim, draw)
            turned = transformed.repeated(len(active))
            tried = (*before.parameters, turned, *after.parameters)
            perturbed = both.apply(tf.constant(originals), tried).numpy()
            worst.add(active, tried, model.predictions(perturbed, aim))
        perturbed = both.apply(tf.constant(images), worst.parameters).numpy()
        return AttackResult(perturbed, worst.parameters, worst.success)


def _first_spatial(composite: Composite) -> tuple[int, Spatial]:
    """Return the first spatial stage and its index.

    Raises:
        InvalidSettings: There is none.
    """
    for index, stage in enumerate(composite.stages_in_order):
        if isinstance(stage, Spatial):
            return index, stage
    names = ", ".join(stage.name for stage in composite.stages_in_order)
    raise InvalidSettings(
        [f"mode: got 'joint' with the stages {names}; allowed: 'sequential', or a stage 'spatial'"]
    )


def _transforms(space: Spatial, seed: tf.Tensor) -> np.ndarray:
    """The transforms that a search tries, float32 [transforms, 3]."""
    if space.search == "grid":
        return space.grid_points()
    return space.sample(tf.zeros([space.num_samples, 1, 1, 1]), seed).numpy()


def _run(
    attacks: tuple[Attack, ...],
    model: TargetModel,
    images: np.ndarray,
    criterion: Criterion,
    seed: tf.Tensor,
) -> AttackResult:
    """Run attacks in sequence; a single one uses the seed as it is."""
    if len(attacks) != 1:
        return run_in_sequence(attacks, model, images, criterion, seed)
    result = attacks[0].run(model, images, criterion, seed)
    return result._replace(parameters=(result.parameters,))


@component
class CompositeAttack(_CompositeSearch):
    """Attack the stages of a composite neighborhood, any number of them in any order.

    The stages are those of the neighborhood `composite` in training, and the searches have their
    settings: PGD for `linf` and `l2`, GridAdv or RandAdv for `spatial`, and the attacks `color`,
    `noise`, `pixel_dropout` and `damage`. An image that is adversarial after a stage skips the
    later ones.
    PGD+ and GridAdv+ are two settings of this attack.

    Args:
        stages: The stages, in the order of application, as in the neighborhood `composite`.
        restarts: Runs of each gradient search; `noise`, `pixel_dropout` and `damage` make that many
            times their draws.
        mode: "sequential" runs each attack on the result of the one before. "joint" then also
            searches the images that survive once for each transform of the first spatial stage:
            the stages before it through the transform, those after it around the transformed
            image.

    Example:
        >>> from keras_srt.neighborhoods import Color, LInf
        >>> CompositeAttack([Color(), LInf(epsilon=0.1)]).norm
        'color+linf'
    """

    name: ClassVar[str] = "composite"

    stages: Annotated[Sequence[Neighborhood], BeforeValidator(build_stages)] = field(kw_only=False)
    restarts: Annotated[int, validation.whole(1)] = 1
    mode: Literal["sequential", "joint"] = "sequential"

    def __post_init__(self) -> None:
        unknown = [s.name for s in self.composite.stages_in_order if s.name not in _ATTACKS]
        if unknown:
            raise InvalidSettings(
                [f"stages: got {', '.join(unknown)}; allowed: {', '.join(_ATTACKS)}"]
            )
        if self.mode == "joint":
            _first_spatial(self.composite)

    @property
    @override
    def composite(self) -> Composite:
        return Composite(stages=self.stages)


@component
class _PixelAndSpatial(_CompositeSearch):
    """Base class of PGD and GridAdv in sequence, in either order."""

    epsilon: Annotated[FloatOrFraction, validation.real(0, 1)] = field(kw_only=False)
    num_steps: Annotated[int, validation.whole(1)] = 40
    step_size: Annotated[float, validation.real(0)] | None = None
    restarts: Annotated[int, validation.whole(1)] = 1
    max_rotation: Annotated[float, validation.real(0, 180)] = 30.0
    max_translation: Annotated[float, validation.real(0)] = 3.0
    grid: GridShape = (5, 5, 31)
    mode: Literal["sequential", "joint"] = "sequential"

    @property
    def _pixel(self) -> LInf:
        return LInf(epsilon=self.epsilon, num_steps=self.num_steps, step_size=self.step_size)

    @property
    def _spatial(self) -> Spatial:
        return Spatial(
            max_rotation=self.max_rotation,
            max_translation=self.max_translation,
            search="grid",
            grid=self.grid,
        )


@component
class PGDPlus(_PixelAndSpatial):
    """PGD+: the worst r at the untransformed image, then the worst transform of x + r (T₁).

    The attack `composite` with two stages.

    Source: Li et al. 2022, section 4.3.

    Args:
        epsilon, num_steps, step_size, restarts: See `PGD`, in L∞.
        max_rotation, max_translation, grid: See `GridAdv`.
        mode: See `CompositeAttack`. In "joint", a surviving image costs one more PGD for each
            transform of the grid.

    Example:
        >>> PGDPlus(epsilon=0.3).norm
        'linf+spatial'
    """

    name: ClassVar[str] = "pgd_plus"

    @property
    @override
    def composite(self) -> Composite:
        return Composite(stages=(self._pixel, self._spatial))


@component
class GridAdvPlus(_PixelAndSpatial):
    """GridAdv+: the worst transform, then the worst r around the transformed image (T₂).

    The attack `composite` with two stages.

    Source: Li et al. 2022, section 4.3.

    Args:
        epsilon, num_steps, step_size, restarts: See `PGD`, in L∞.
        max_rotation, max_translation, grid: See `GridAdv`.
        mode: See `CompositeAttack`. In "joint", a surviving image costs one more PGD for each
            transform of the grid.

    Example:
        >>> GridAdvPlus(epsilon=0.3).norm
        'spatial+linf'
    """

    name: ClassVar[str] = "gridadv_plus"

    @property
    @override
    def composite(self) -> Composite:
        return Composite(stages=(self._spatial, self._pixel))
