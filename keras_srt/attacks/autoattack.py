"""AutoAttack: several attacks with fixed settings, one after the other, and the worst of them."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from keras_srt.attacks.apgd import APGDCE, APGDDLR, APGDT, BALLS
from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.fab import FABT
from keras_srt.attacks.square import Square
from keras_srt.attacks.target_model import TargetModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods.draws import fold
from keras_srt.neighborhoods.lp import LpBall

# Passes of a gradient in the version for models that answer at random.
_EOT_ITER = 20


@component
class AutoAttack(Attack):
    """AutoAttack: an image stands only if it stands every member.

    Version "standard" is apgd_ce, apgd_t, fab_t and square; "rand", for models that answer
    at random, is apgd_ce and apgd_dlr with gradients that are means of 20 passes. Each member
    attacks the images that still stand. The defaults are the reference settings; smaller
    budgets are quicker and weaker.

    Source: Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble
    of diverse parameter-free attacks".

    Args:
        epsilon: ε, in units of pixel values in [0, 1].
        norm_ball: "linf" or "l2".
        version: "standard" or "rand".
        num_steps: steps of a run of APGD and of FAB.
        num_targets: classes that apgd_t and fab_t aim at.
        queries: of square.
        eot_iter: passes of a gradient of APGD; by default 20 for "rand", else 1.

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
    def neighborhood(self) -> LpBall:
        """The ball of the norm."""
        return BALLS[self.norm_ball](epsilon=self.epsilon)

    @property
    def members(self) -> tuple[Attack, ...]:
        """The attacks, in their order."""
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

    def run(
        self, target_model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        """See `Attack.run`."""
        return self.run_members(target_model, images, criterion, seed)[0]

    def run_members(
        self, target_model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> tuple[AttackResult, np.ndarray]:
        """As `run`, and which member fooled the model.

        Args:
            target_model: see `Attack.run`, like the rest.
            images: float32 [n, height, width, channels] in [0, 1].
            criterion: of each member.
            seed: int32 [2].

        Returns:
            What was found, and int [n]: the index in `members` of the first to fool the model on
            an image, -1 where none did or none had to. An image that stands is the one of
            apgd_ce's highest loss.
        """
        found, first = np.array(images), np.full(len(images), -1)
        fooled = criterion.is_adversarial(target_model.answers(images, criterion).classes)
        for number, member in enumerate(self.members):
            active = np.flatnonzero(~fooled)
            if not len(active):
                break
            one = member.run(target_model, images[active], criterion[active], fold(seed, number))
            taken = one.fooled | (number == 0)
            found[active[taken]], first[active[one.fooled]] = one.images[taken], number
            fooled[active] = one.fooled
        return AttackResult(found, found - images, fooled), first
