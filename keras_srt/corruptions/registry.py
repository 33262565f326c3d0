"""The corruptions by name.

Strengths of the corruptions that CIFAR-10-C (`small`) and ImageNet-C (`large`) have are theirs:
Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and
perturbations", ICLR 2019, https://github.com/hendrycks/robustness. The others are defined here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from keras_srt.corruptions import blur, coding, color, loss, noise, warp
from keras_srt.corruptions.base import Corruption

_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
_LOST = (0.05, 0.1, 0.2, 0.3, 0.5)
_TURNS = (18, 36, 54, 72, 90)  # degrees
_BITS = (5, 4, 3, 2, 1)
_ELASTIC_SMALL = (
    (0, 0, 0.08),
    (0.05, 0.2, 0.07),
    (0.08, 0.06, 0.06),
    (0.1, 0.04, 0.05),
    (0.1, 0.03, 0.03),
)
# ImageNet-C's are shares of 244 pixels, for images of 224.
_ELASTIC_LARGE = tuple(
    tuple(share * 244 / 224 for share in shares)
    for shares in (
        (2, 0.7, 0.1),
        (2, 0.08, 0.2),
        (0.05, 0.01, 0.02),
        (0.07, 0.01, 0.02),
        (0.12, 0.01, 0.02),
    )
)
# fmt: off
_ALL = (
    Corruption("lost_pixels", loss.lost_pixels, _LOST, _LOST),
    Corruption("lost_rows", loss.lost_rows, _LOST, _LOST),
    Corruption("lost_block", loss.lost_block, _LOST, _LOST),
    Corruption("missing_channel", loss.missing_channel, _SHARES, _SHARES, True),
    Corruption("stuck_channel", loss.stuck_channel, _SHARES, _SHARES, True),
    Corruption("gray", color.gray, _SHARES, _SHARES, True),
    Corruption("hue", color.hue, _TURNS, _TURNS, True),
    Corruption(
        "saturate", color.saturate,
        ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
        True,
    ),
    Corruption(
        "brightness", color.brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)
    ),
    Corruption(
        "contrast", color.contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)
    ),
    Corruption(
        "gaussian_noise", noise.gaussian_noise,
        (0.04, 0.06, 0.08, 0.09, 0.1), (0.08, 0.12, 0.18, 0.26, 0.38),
    ),
    Corruption("shot_noise", noise.shot_noise, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    Corruption(
        "impulse_noise", noise.impulse_noise,
        (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27),
    ),
    Corruption(
        "defocus_blur", blur.defocus_blur,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    Corruption(
        "motion_blur", blur.motion_blur,
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    Corruption(
        "jpeg_compression", coding.jpeg_compression, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)
    ),
    Corruption("bit_depth", coding.bit_depth, _BITS, _BITS),
    Corruption(
        "pixelate", coding.pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)
    ),
    Corruption("elastic_transform", warp.elastic_transform, _ELASTIC_SMALL, _ELASTIC_LARGE),
)
# fmt: on
CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType({each.name: each for each in _ALL})


def corruptions_for(channels: int) -> tuple[Corruption, ...]:
    """Return the corruptions that change images with so many channels.

    Args:
        channels: 1 for gray images, 3 for color images.

    Example:
        >>> len(corruptions_for(3)), len(corruptions_for(1))
        (19, 14)
    """
    return tuple(each for each in _ALL if channels == 3 or not each.color_only)
