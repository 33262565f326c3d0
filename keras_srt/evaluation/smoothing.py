"""Randomized smoothing: certified accuracy against L2 perturbations."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from keras_srt.attacks import Criterion, QueryModel, TargetModel
from keras_srt.attacks.target_model import classes_of
from keras_srt.core.tensorflow import tf
from keras_srt.evaluation.intervals import proportion
from keras_srt.evaluation.part_progress import Progress, report_part
from keras_srt.neighborhoods import L2

_ALPHA = 0.001  # probability that a certificate is wrong
_FIRST_SAMPLES = 100  # to choose the class
# Radii of the curve in multiples of σ; with 1,000 samples no radius exceeds 2.46σ.
_RADII = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
_ATTACK_STEPS, _ATTACK_SAMPLES = 20, 8

ABSTAIN = -1


def certified_radius(votes: int, samples: int, sigma: float, alpha: float = _ALPHA) -> float:
    """Compute the radius in which a smoothed classifier keeps its class.

    R = σ·Φ⁻¹(p), with p the lower Clopper-Pearson bound of the class's probability at level 1-α.

    Args:
        votes: Samples with the class.
        samples: All samples.
        sigma: σ of the noise.
        alpha: α.

    Returns:
        R, an L2 norm of pixel values in [0, 1]; 0 if p is at most 1/2.

    Example:
        >>> round(certified_radius(1000, 1000, 0.5), 4)
        1.2316

    Source: Cohen, Rosenfeld and Kolter, ICML 2019, theorem 1 and algorithm 2.
    """
    from scipy.stats import beta, norm

    lower = float(beta.ppf(alpha, votes, samples - votes + 1)) if votes else 0.0
    return max(0.0, sigma * float(norm.ppf(lower)))


def certify(
    model: QueryModel,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    sigma: float,
    samples: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any] | None:
    """Measure the certified accuracy of the smoothed classifier, and attack it.

    The smoothed classifier g(x) is the class that f(x + σ·N(0, I)) has most often. A certificate
    of radius R says that no perturbation of an L2 norm up to R changes g(x); it is wrong with a
    probability of at most 0.001. Where no class is certain, g abstains, which counts as wrong.
    PGD on g's expected loss is an upper bound of the accuracy that a certificate can reach.

    The cost for each image is 100 + `samples` forward passes and, with gradients, at most 5 times
    160 gradient passes and `samples` forward passes.

    Args:
        model: The model f; noise takes its images out of [0, 1].
        images: Some test images, float32 [n, height, width, channels] in [0, 1].
        labels: True classes, int32 [n].
        sigma: σ, in units of pixel values in [0, 1].
        samples: Random images for each certificate.
        seed: Seed of the noise.
        progress: Called before the first and after each image, or None.

    Returns:
        The section `smoothing` of report.json: `{"sigma", "samples", "alpha", "n", "abstained",
        "certified": [{"radius", "accuracy", "ci95", "n"}, …], "attacked": the same or null,
        "queries", "seconds"}`; None without images.

    Raises:
        ValueError: `sigma` is not positive.

    Source: Cohen, Rosenfeld and Kolter, ICML 2019; Salman et al., NeurIPS 2019, for the attack.
    """
    if sigma <= 0:
        raise ValueError(f"sigma: got {sigma}; allowed: above 0, such as 0.25")
    if not len(images):
        return None
    began, queries = time.perf_counter(), model.queries
    progress = progress or (lambda name, done, total: None)
    votes = _Votes(model, sigma, seed)
    classes, radii = _certificates(votes, images, samples, progress)
    attacked = None
    if isinstance(model, TargetModel):
        attacked = _accuracy_under_attack(model, votes, images, labels, samples, progress)
    certified = [
        {"radius": share * sigma, **proportion((classes == labels) & (radii >= share * sigma))}
        for share in _RADII
    ]
    return {
        "sigma": sigma,
        "samples": samples,
        "alpha": _ALPHA,
        "n": len(images),
        "abstained": int((classes == ABSTAIN).sum()),
        "certified": certified,
        "attacked": attacked,
        "queries": model.queries - queries,
        "seconds": round(time.perf_counter() - began, 2),
    }


class _Votes(NamedTuple):
    """Counts the classes of a model at an image with noise."""

    model: QueryModel
    sigma: float
    seed: int

    def tally(self, image: np.ndarray, samples: int, *key: int) -> np.ndarray:
        """Return the number of samples of each class, int [classes]; NaN logits have no class."""
        random = np.random.default_rng([self.seed, *key])
        counts = np.zeros(0, int)
        for first in range(0, samples, self.model.batch_size):
            size = min(self.model.batch_size, samples - first)
            noise = random.standard_normal((size, *image.shape), np.float32)
            logits = self.model.logits(image + self.sigma * noise)
            classes = classes_of(logits)
            found = np.bincount(classes[classes >= 0], minlength=logits.shape[1])
            counts = counts + found if len(counts) else found
        return counts


def _certificates(
    votes: _Votes, images: np.ndarray, samples: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of each image, or `ABSTAIN`, and its certified radius."""
    classes, radii = np.full(len(images), ABSTAIN), np.zeros(len(images))
    progress("smoothing", 0, len(images))
    for number, image in enumerate(images):
        chosen = int(votes.tally(image, _FIRST_SAMPLES, number, 0).argmax())
        count = int(votes.tally(image, samples, number, 1)[chosen])
        radii[number] = certified_radius(count, samples, votes.sigma)
        if radii[number] > 0:
            classes[number] = chosen
        progress("smoothing", number + 1, len(images))
    return classes, radii


def _accuracy_under_attack(
    model: TargetModel,
    votes: _Votes,
    images: np.ndarray,
    labels: np.ndarray,
    samples: int,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Measure the accuracy of the smoothed classifier under PGD at each radius."""
    surviving, points = np.ones(len(images), bool), []
    progress("attack", 0, len(_RADII))
    for number, share in enumerate(_RADII):
        radius, index = share * votes.sigma, np.flatnonzero(surviving)
        perturbed = images[index]
        with report_part(progress, model, "attack", number, 1, len(_RADII)):
            if radius > 0 and len(index):
                with model.progress.part(0.0, 0.5):
                    labeled = perturbed, labels[index]
                    perturbed = _ascend(model, *labeled, radius, votes.sigma, number)
            with model.progress.part(0.5, 1.0):
                for row, image in model.progress.each(list(zip(index, perturbed, strict=True))):
                    counts = votes.tally(image, samples, int(row), 2 + number)
                    surviving[row] = counts.argmax() == labels[row]
        points.append({"radius": radius, **proportion(surviving)})
    return points


def _ascend(
    model: TargetModel,
    images: np.ndarray,
    labels: np.ndarray,
    radius: float,
    sigma: float,
    seed: int,
) -> np.ndarray:
    """Ascend the expected loss E[CE(f(x' + σ·N(0, I)), y)] in the L2 ball, by its gradient."""
    solver = L2(epsilon=radius, num_steps=_ATTACK_STEPS, random_start=False).solver
    random, criterion, now = np.random.default_rng(seed), Criterion(labels), images
    for _ in model.progress.each(range(_ATTACK_STEPS)):
        gradient = np.zeros_like(images)
        for _ in range(_ATTACK_SAMPLES):
            noise = random.standard_normal(images.shape, np.float32)
            gradient += model.gradient(now + sigma * noise, criterion)[1]
        now = solver.step(*map(tf.constant, (images, now, gradient))).numpy()
    return now
