"""What the user declares about a model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_srt.core.errors import InvalidSettings
from keras_srt.foreign.opened_model import Range

OUTPUTS = ("logits", "probabilities")


class ModelOptions(NamedTuple):
    """What the user declares about a model that its structure does not define.

    Attributes:
        input_range: The values of black and white; None if not declared.
        outputs: One of `OUTPUTS`; None if not declared.
        foreign: Whether to run a SavedModel with any operations, see `load_savedmodel`.
    """

    input_range: Range | None = None
    outputs: str | None = None
    foreign: bool = False

    def check(self) -> None:
        """Check the values.

        Raises:
            InvalidSettings: A value is not allowed.
        """
        if self.outputs is not None and self.outputs not in OUTPUTS:
            raise InvalidSettings([f"outputs: got {self.outputs!r}; allowed: {', '.join(OUTPUTS)}"])
        if self.input_range is not None:
            low, high = self.input_range
            if not (np.isfinite([low, high]).all() and low != high):
                raise InvalidSettings(
                    [f"input_range: got {self.input_range}; allowed: two numbers, such as 0, 255"]
                )
