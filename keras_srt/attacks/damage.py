"""Damage attack: the worst of random draws, with queries only."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar

from pydantic import Field
from typing_extensions import override

from keras_srt.attacks.random_draws import RandomDrawAttack
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods import Damage
from keras_srt.neighborhoods.damage import DamageKind


@component
class DamageAttack(RandomDrawAttack):
    """Lose pixels or rows, or fade colors; the worst of `num_samples` draws for each image.

    An image drops out when it is adversarial.

    Args:
        share, kinds: See the neighborhood `damage`.
        num_samples: Number of random draws.

    Example:
        >>> DamageAttack(0.1).needs_gradients
        False
    """

    name: ClassVar[str] = "damage"

    share: Annotated[FloatOrFraction, validation.real(0, 1)] = field(kw_only=False)
    kinds: Annotated[tuple[DamageKind, ...], Field(min_length=1)] = Damage.kinds
    num_samples: Annotated[int, validation.whole(1)] = 20

    @property
    @override
    def neighborhood(self) -> Damage:
        return Damage(share=self.share, kinds=self.kinds, num_samples=self.num_samples)
