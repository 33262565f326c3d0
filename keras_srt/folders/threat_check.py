"""A check of a threat model: whether a briefly trained standard model fails under it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.attacks import Criterion, TargetModel
from keras_srt.config.loader import parse
from keras_srt.config.schema import Config
from keras_srt.core.errors import UserError
from keras_srt.core.formatting import format_count
from keras_srt.core.images import BadImage
from keras_srt.core.progress import ProgressBar
from keras_srt.core.tensorflow import keras, tf
from keras_srt.core.validation import parse_number
from keras_srt.data import DatasetInfo, Folder, Images, parallel_map, training_batches
from keras_srt.data.photo_decoder import PhotoDecoder
from keras_srt.evaluation.intervals import proportion
from keras_srt.evaluation.threats import Sample, Threat
from keras_srt.pipeline.classifiers import build_model
from keras_srt.pipeline.configs import COMPONENTS
from keras_srt.pipeline.plan import make_plan

# The longest check, and its longest share of the time for a run.
_SECONDS, _SHARE = 120.0, 0.1
# The shares of the check's time for reading images, and until the attack begins.
_READING, _TRAINING = 0.3, 0.7
# The most images to train on and to attack; a fifth of few images is attacked. Of images that are
# slow to read, this many are read.
_TRAINED, _ATTACKED, _HELD_OUT, _FEWEST_IMAGES = 2000, 200, 0.2, 100
# The training ends after this many passes over the images, but not before this many steps.
_PASSES, _FEWEST_STEPS = 10, 300
_ATTACK_STEPS, _BATCH = 20, 100
# Multiples of ε that are tried until one is a threat.
_FACTORS = (1, 2, 4)
# Settings of the config's training that a standard training has as well.
_KEPT = {"batch_size", "learning_rate", "schedule", "gradient_clip", "freeze"}


class ThreatCheck(NamedTuple):
    """The accuracy of a standard model, clean and under a threat model.

    Attributes:
        clean: Whether each image is correctly classified, bool [n].
        kept: For ε and, if the model keeps most of its accuracy, for larger ones: whether each
            image is correctly classified under the attack, bool [n].
        chance: The accuracy of always answering the most frequent class.
        steps: The number of training steps.
        short: Whether more time for the run would give more steps.
    """

    clean: np.ndarray
    kept: Mapping[str, np.ndarray]
    chance: float
    steps: int
    short: bool = False

    @property
    def learned(self) -> bool:
        """Whether the model is better than chance, beyond the 95% interval."""
        return proportion(self.clean)["ci95"][0] > self.chance

    def breaks(self, epsilon: str) -> bool:
        """Whether the model loses half of its accuracy under noise of ε."""
        return bool(2 * self.kept[epsilon].sum() <= self.clean.sum())

    def describe(self) -> str:
        """Describe the result in a line for people, a warning if the threat is weak."""
        clean, n = f"{self.clean.mean():.0%}", len(self.clean)
        steps = format_count(self.steps, "step")
        if not self.learned:
            remedy = "give more --time, or " if self.short else ""
            return (
                f"check     no answer: after {steps} a standard model is right for {clean} of "
                f"{n:,} images, not significantly more than if it always gave the most frequent "
                f"class ({self.chance:.0%}); {remedy}leave the check out with --no-check"
            )
        first, *larger = self.kept
        kept = f"a standard model keeps {self.kept[first].mean():.0%} (of {clean} clean)"
        about = f"n={n}, PGD-{_ATTACK_STEPS}, after {steps}"
        if self.breaks(first):
            return f"check     {kept} under this threat ({about}): the threat is a real one"
        found = next((epsilon for epsilon in larger if self.breaks(epsilon)), None)
        way = "robust training may gain little"
        if found is not None:
            way = f"under {found} it keeps {self.kept[found].mean():.0%}: try --epsilon {found}"
        return f"warning: {kept} under this threat ({about}), which is weak; {way}"


def check_threat(
    content: Mapping[str, Any], info: DatasetInfo, seconds: float, step_seconds: float
) -> ThreatCheck:
    """Train a standard model on labeled images and attack it in the threat model of a config.

    It takes at most two minutes, or a tenth of the time for the run. Nothing is written.

    Args:
        content: The content of the config file, from `starting_config`.
        info: The sizes of its dataset.
        seconds: The time for the run.
        step_seconds: The time of a training step of the config.

    Raises:
        UserError: A folder is missing, or too few of its images can be read.
        InvalidSettings: The config can't be trained.
    """
    began, seconds = time.perf_counter(), min(_SECONDS, _SHARE * seconds)
    source = parse(_without_variants(content), COMPONENTS).data.dataset
    trained, attacked = _read(source, began + _READING * seconds)
    end = began + _TRAINING * seconds
    steps = _affordable_steps(content, info, len(trained.labels), end, step_seconds)
    config = parse(_standard(content, steps), COMPONENTS)
    classifier, steps = _train(config, info, trained, end)
    found = _attack(classifier, attacked, str(content["neighborhood"]["epsilon"]), steps)
    return found._replace(short=steps < _FEWEST_STEPS and seconds < _SECONDS)


def _without_variants(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != "variants"}


def _standard(content: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return the content of a config with the objective `standard`."""
    training = {key: content["training"][key] for key in _KEPT & content["training"].keys()}
    objective = {"name": "standard"}
    training["steps"] = steps
    return _without_variants(content) | {"objective": objective, "training": training}


def _read(source: Folder, deadline: float) -> tuple[Images, Images]:
    """Read labeled images until a deadline, in random order; return those to train on, and others.

    The images to attack are read first.
    """
    listing = source.list_files(None).labeled
    files, labels = listing.files, listing.labels
    order = np.random.default_rng(0).permutation(len(files))[: _TRAINED + _ATTACKED]
    decode = partial(_decoded, source.decoder)
    images, ids = [], []
    with closing(parallel_map(decode, [files[i] for i in order], "reading")) as photos:
        for index, photo in zip(order, photos, strict=True):
            if photo is not None and labels[index]:
                images.append(photo)
                ids.append(listing.classes.index(labels[index]))
            if time.perf_counter() > deadline and len(images) >= _FEWEST_IMAGES:
                break
    count = min(_ATTACKED, round(_HELD_OUT * len(images)))
    if not count or len(set(ids[count:])) < 2:
        raise UserError(
            f"init: only {len(images)} labeled images can be read; allowed: several of each class"
        )
    stacked, known = np.stack(images), np.int32(ids)
    return Images(stacked[count:], known[count:]), Images(stacked[:count], known[:count])


def _decoded(decoder: PhotoDecoder, path: Path) -> np.ndarray | None:
    try:
        return decoder.read(path)
    except (BadImage, OSError):  # `summarize` and the training report it
        return None


def _affordable_steps(
    content: Mapping[str, Any],
    info: DatasetInfo,
    count: int,
    deadline: float,
    step_seconds: float,
) -> int:
    """Return the number of steps for a number of images, until a deadline."""
    robust, standard = (
        make_plan(parse(settings, COMPONENTS), info)
        for settings in (_without_variants(content), _standard(content, 1))
    )
    seconds = step_seconds * standard.passes.relative_cost / robust.passes.relative_cost
    most = max(_FEWEST_STEPS, _PASSES * count // sum(standard.sizes))
    return max(1, min(most, int((deadline - time.perf_counter()) / seconds)))


def _train(
    config: Config, info: DatasetInfo, images: Images, deadline: float
) -> tuple[keras.Model, int]:
    """Train until all steps are done or a deadline; return the classifier and the steps."""
    plan = make_plan(config, info)
    with ProgressBar("compiling"):
        model = build_model(config, info, plan)
        model.make_train_function()
    batches = iter(
        training_batches(
            images.images,
            images.labels,
            images.images[:0],
            plan.sizes,
            seed=config.seed,
            first_step=0,
            balance=config.data.balance,
        )
    )
    with ProgressBar("standard training", plan.steps, "step") as bar:
        while bar.done < plan.steps and (not bar.done or time.perf_counter() < deadline):
            model.train_function(batches)
            bar.advance()
    return model.classifier, int(bar.done)


def _attack(classifier: keras.Model, images: Images, epsilon: str, steps: int) -> ThreatCheck:
    """Attack with PGD at ε and, while the classifier keeps most of its accuracy, at larger ones."""
    model = TargetModel(classifier, _BATCH)
    pixels, labels = np.float32(images.images / 255.0), images.labels
    clean = model.predictions(pixels, Criterion(labels)).classes == labels
    chance = np.bincount(labels).max() / len(labels)
    check, count = ThreatCheck(clean, {}, float(chance), steps), int(clean.sum())
    for factor in _FACTORS:
        threat = Threat("linf", min(1.0, factor * float(parse_number(epsilon))))
        sample = Sample(model, pixels, labels, clean, 0.0, threat, tf.constant([0, 0]))
        attack = sample.pgd(threat.epsilon, num_steps=_ATTACK_STEPS)
        with ProgressBar(f"attack {_times(epsilon, factor)}", count, "image") as bar:
            with model.progress.shown_by(lambda share: bar.advance(count * share - bar.done)):
                kept = sample.surviving(attack, clean)
        check = check._replace(kept={**check.kept, _times(epsilon, factor): kept})
        if not check.learned or check.breaks(_times(epsilon, factor)):
            break
    return check


def _times(epsilon: str, factor: int) -> str:
    """Multiply ε, which is a number or a fraction, as text.

    Example:
        >>> _times("8/255", 2), _times("0.1", 4)
        ('16/255', '0.4')
    """
    number, slash, divisor = epsilon.partition("/")
    return f"{factor * float(number):g}{slash}{divisor}"
