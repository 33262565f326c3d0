"""AutoAttack: an ensemble of attacks with fixed settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from typing_extensions import override

from keras_srt.attacks.apgd import APGDCE, APGDDLR, APGDT
from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.fab import FABT
from keras_srt.attacks.pixel_balls import BALLS
from keras_srt.attacks.square import Square
from keras_srt.attacks.target_model import QueryModel, TargetModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods.draws import fold
from keras_srt.neighborhoods.lp import LpBall

# (name of a member, attack by it) -> the result
KeepResult = Callable[[str, Callable[[], AttackResult]], AttackResult]

# Passes per gradient in the version for randomized models.
_EOT_ITER = 20


@component
class AutoAttack(Attack):
    """AutoAttack: an image survives only if it survives every member.

    Version "standard" runs apgd_ce, apgd_t, fab_t and square; version "rand", for randomized
    models, runs apgd_ce and apgd_dlr with gradients averaged over 20 passes. Each member attacks
    the images that survived the members before it. The defaults are the reference settings;
    smaller budgets are faster and weaker.

    Source: Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble
    of diverse parameter-free attacks".

    Args:
        epsilon: ε, in units of pixel values in [0, 1].
        norm_ball: "linf" or "l2".
        version: "standard" or "rand".
        num_steps: Steps of a run of APGD and of FAB.
        num_targets: Target classes of apgd_t and fab_t.
        queries: Queries of square.
        eot_iter: Passes per gradient of APGD; by default 20 for "rand", else 1.

    Example:
        >>> [member.name for member in AutoAttack(epsilon="8/255").members]
        ['apgd_ce', 'apgd_t', 'fab_t', 'square']
    """

    name: ClassVar[str] = "autoattack"

    epsilon: Annotated[FloatOrFraction, validation.real(0)] = field(kw_only=False)
    norm_ball: Literal["linf", "l2"] = "linf"
    version: Literal["standard", "rand"] = "standard"
    num_steps: Annotated[int, validation.whole(1)] = 100
    num_targets: Annotated[int, validation.whole(1)] = 9
    queries: Annotated[int, validation.whole(1)] = 5000
    eot_iter: Annotated[int, validation.whole(1)] | None = None

    @property
    @override
    def neighborhood(self) -> LpBall:
        return BALLS[self.norm_ball](epsilon=self.epsilon)

    @property
    def members(self) -> tuple[Attack, ...]:
        """Attacks in the order in which they run."""
        ball: dict[str, Any] = {"epsilon": self.epsilon, "norm_ball": self.norm_ball}
        steps: dict[str, Any] = {**ball, "num_steps": self.num_steps}
        if self.version == "rand":
            passes = self.eot_iter or _EOT_ITER
            return APGDCE(**steps, eot_iter=passes), APGDDLR(**steps, eot_iter=passes)
        passes = self.eot_iter or 1
        return (
            APGDCE(**steps, eot_iter=passes),
            APGDT(**steps, num_targets=self.num_targets, eot_iter=passes),
            FABT(**steps, num_targets=self.num_targets, stop_early=True),
            Square(**ball, queries=self.queries),
        )

    @property
    def _costs(self) -> tuple[int, ...]:
        """Forward passes of each member on an image that survives; a gradient costs three."""
        gradients = 3 * self.num_steps
        if self.version == "rand":
            return gradients, gradients
        targets = self.num_targets
        return gradients, targets * gradients, targets * (gradients + self.num_steps), self.queries

    @override
    def search(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        return self.run_members(model, images, criterion, seed)[0]

    def run_members(
        self,
        model: QueryModel,
        images: np.ndarray,
        criterion: Criterion,
        seed: tf.Tensor,
        keep: KeepResult = lambda name, attack: attack(),
    ) -> tuple[AttackResult, np.ndarray]:
        """Attack a model and report which member succeeded.

        Args:
            model: The model under attack.
            images: float32 [n, height, width, channels] in [0, 1].
            criterion: Labels and, for a targeted attack, targets.
            seed: int32 [2].
            keep: Calls the attack of a member, or returns the result of an interrupted run.

        Returns:
            The result, and the index in `members` of the first member that succeeded, int [n]: -1
            if none did, or if the image was adversarial from the start. A surviving image is the
            one of apgd_ce's highest loss.
        """
        worst, first = np.array(images), np.full(len(images), -1)
        success = criterion.is_adversarial(model.predictions(images, criterion).classes)
        done = np.cumsum([0.0, *self._costs]) / sum(self._costs)
        for number, member in enumerate(self.members):
            active = np.flatnonzero(~success)
            if not len(active):
                break
            attacked = images[active], criterion[active], fold(seed, number)
            with model.progress.part(done[number], done[number + 1]):
                result = keep(member.name, partial(member.run, model, *attacked))
            taken = result.success | (number == 0)
            worst[active[taken]], first[active[result.success]] = result.images[taken], number
            success[active] = result.success
        return AttackResult(worst, worst - images, success), first
