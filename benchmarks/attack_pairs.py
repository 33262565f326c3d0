"""Our attacks paired with those of other libraries, with the same settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from libraries import (
    LibraryAttack,
    art,
    art_image_by_image,
    autoattack,
    fab_nearest,
    foolbox,
    torchattacks,
)


class Pair(NamedTuple):
    """Two implementations of an attack.

    Attributes:
        ours: Settings of our attack.
        theirs: The other library's attack.
        reason: The difference, for the documentation; required with a larger tolerance.
        points: Points of accuracy by which ours may be weaker.
        share: Share by which our mean distance may be longer.
    """

    ours: Mapping[str, Any]
    theirs: LibraryAttack
    reason: str = ""
    points: float = 1.0
    share: float = 0.03

    def __str__(self) -> str:
        parts = [self.ours.get(key) for key in ("name", "norm_ball", "target")]
        return f"{'-'.join(filter(None, parts))}, {self.theirs.module}"


# Radii at which attacks succeed on a part of the images of the small classifier.
_LINF, _L2 = 0.1, 1.0
_BATCH = {"batch_size": 500}


def _next_class(labels: np.ndarray) -> np.ndarray:
    return (labels + 1) % 10


def _gradient_sign() -> list[Pair]:
    ours = {"name": "fgsm", "epsilon": _LINF}
    return [
        Pair(ours, foolbox("FGSM", {}, _LINF)),
        Pair(ours, art("FastGradientMethod", {"eps": _LINF, **_BATCH})),
    ]


def _projected_gradient(ball: str, radius: float, by_foolbox: str, order: float) -> list[Pair]:
    steps, size = 40, radius / 16
    ours = {
        "name": "pgd",
        "norm_ball": ball,
        "epsilon": radius,
        "num_steps": steps,
        "step_size": size,
    }
    # Without a random start, so that the results are deterministic.
    from_image = {"steps": steps, "abs_stepsize": size, "random_start": False}
    by_art = {
        "norm": order,
        "eps": radius,
        "eps_step": size,
        "max_iter": steps,
        "num_random_init": 1,
        **_BATCH,
    }
    targeted = {**by_art, "targeted": True}
    return [
        Pair({**ours, "random_start": False}, foolbox(by_foolbox, from_image, radius)),
        Pair(ours, art("ProjectedGradientDescent", by_art)),
        Pair({**ours, "target": "next"}, art("ProjectedGradientDescent", targeted, _next_class)),
    ]


def _momentum() -> list[Pair]:
    steps, size = 10, _LINF / 10
    ours = {"name": "mi_fgsm", "epsilon": _LINF, "num_steps": steps, "step_size": size}
    return [
        Pair(
            ours,
            foolbox(
                "LinfMomentumIterativeFastGradientMethod",
                {"steps": steps, "abs_stepsize": size},
                _LINF,
            ),
            "Foolbox sums the signs of the gradients",
        ),
        Pair(
            ours,
            art(
                "ProjectedGradientDescentNumpy",
                {"eps": _LINF, "eps_step": size, "max_iter": steps, "decay": 1.0, **_BATCH},
            ),
        ),
        Pair(ours, torchattacks("MIFGSM", {"eps": _LINF, "alpha": size, "steps": steps})),
    ]


def _carlini_wagner() -> list[Pair]:
    # The reference settings, 9 searches of up to 10,000 steps, would take Foolbox an hour.
    searches, steps, first = 5, 200, 0.1
    ours = {
        "name": "cw",
        "epsilon": _L2,
        "searches": searches,
        "iterations": steps,
        "initial_const": first,
    }
    theirs = {"binary_search_steps": searches, "initial_const": first}
    return [
        Pair(ours, foolbox("L2CarliniWagnerAttack", {**theirs, "steps": steps})),
        Pair(
            ours,
            art("CarliniL2Method", {**theirs, "max_iter": 10, **_BATCH}),
            "ART uses 10 line searches, up to 11 passes each, instead of Adam",
        ),
    ]


def _few_values() -> list[Pair]:
    """L0 attacks."""
    both = {"theta": 1.0, "gamma": 0.5}
    jsma = {"name": "jsma", "epsilon": 30, "target": "next", **both}
    return [
        Pair(jsma, torchattacks("JSMA", both)),
        Pair(
            jsma,
            art("SaliencyMapMethod", {**both, **_BATCH}, _next_class),
            "ART has no saliency map: it takes the two largest gradients of the target",
            points=20.0,
            share=0.5,
        ),
        Pair(
            {"name": "pointwise", "epsilon": 10, "bisections": 0},
            foolbox("PointwiseAttack", {"l2_binary_search": False}, torch=True),
            "ours is the best of 3 runs, by default",
        ),
    ]


def _spatial() -> list[Pair]:
    # A pixel of 16 is 15/16 of a pixel in Foolbox, so its limit must be larger.
    pixel = 16 / 15
    shifts = {"name": "gridadv_t", "max_translation": 1.0, "points": 3}
    draws = {"grid_search": False, "random_steps": 100, "max_translation": 0}
    return [
        Pair(
            {"name": "gridadv_r", "max_rotation": 30.0, "points": 31},
            foolbox("SpatialAttack", _foolbox_grid(0, 30, 1, 31), torch=True),
        ),
        Pair(
            {"name": "randadv_r", "max_rotation": 30.0, "num_samples": 100},
            foolbox("SpatialAttack", {**draws, "max_rotation": 30}, torch=True),
            "Foolbox draws the same angles for all images",
        ),
        Pair(shifts, foolbox("SpatialAttack", _foolbox_grid(pixel, 0, 3, 1), torch=True)),
        Pair(
            shifts,
            art_image_by_image(
                "SpatialTransformation", {"max_translation": 100 / 16, "num_translations": 3}
            ),
        ),
        Pair(
            {"name": "gridadv", "max_rotation": 10.0, "max_translation": 1.0, "grid": (3, 3, 5)},
            foolbox("SpatialAttack", _foolbox_grid(pixel, 10, 3, 5), torch=True),
            "Foolbox translates before it rotates",
        ),
    ]


def _foolbox_grid(shift: float, turn: float, shifts: int, turns: int) -> dict[str, Any]:
    return {
        "max_translation": shift,
        "max_rotation": turn,
        "num_translations": shifts,
        "num_rotations": turns,
    }


def _members(ball: str, norm: str, radius: float) -> list[Pair]:
    """The members of AutoAttack."""
    both = {"norm_ball": ball, "epsilon": radius}
    return [
        Pair({"name": "apgd_ce", **both}, autoattack(["apgd-ce"], norm, radius)),
        Pair({"name": "apgd_t", **both}, autoattack(["apgd-t"], norm, radius)),
        Pair({"name": "fab_t", **both, "num_steps": 50}, fab_nearest(norm, 50)),
        Pair(
            {"name": "square", **both, "queries": 1000},
            autoattack(["square"], norm, radius, queries=1000),
        ),
    ]


def _auto() -> list[Pair]:
    """AutoAttack as a whole, and the two members that ART has."""
    both = {"norm_ball": "linf", "epsilon": _LINF}
    return [
        Pair(
            {"name": "autoattack", **both},
            autoattack(["apgd-ce", "apgd-t", "fab-t", "square"], "Linf", _LINF),
        ),
        Pair(
            {"name": "apgd_ce", **both},
            art(
                "AutoProjectedGradientDescent",
                {
                    "eps": _LINF,
                    "eps_step": 2 * _LINF,
                    "max_iter": 100,
                    "nb_random_init": 1,
                    "loss_type": "cross_entropy",
                    **_BATCH,
                },
            ),
        ),
        Pair(
            {"name": "square", **both, "queries": 1000, "rescale_schedule": True},
            art("SquareAttack", {"eps": _LINF, "max_iter": 1000, **_BATCH}),
        ),
    ]


PAIRS = (
    *_gradient_sign(),
    *_projected_gradient("linf", _LINF, "LinfPGD", np.inf),
    *_projected_gradient("l2", _L2, "L2PGD", 2),
    *_momentum(),
    *_carlini_wagner(),
    Pair({"name": "ddn", "epsilon": _L2}, foolbox("DDNAttack", {"steps": 100})),
    *_few_values(),
    *_spatial(),
    *_members("linf", "Linf", _LINF),
    *_members("l2", "L2", _L2),
    *_auto(),
)
