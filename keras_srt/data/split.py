"""The split of the training images into labeled, unlabeled and validation images."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.files import json_checksum, write_text
from keras_srt.data.index_ranges import IndexRanges

Selection = Literal["stratified", "random", "first"]
ValidationSource = Literal["rest", "labeled"]

# Fewer validation images per class are too few to compare two checkpoints.
VALIDATION_PER_CLASS = 10
# Longer index lists are saved as ranges if that takes fewer numbers.
_MAX_LISTED = 100_000


@dataclasses.dataclass(frozen=True)
class Split:
    """Disjoint sets of indices into the training images.

    Attributes:
        labeled: int64 [n], images whose labels the loss uses.
        unlabeled: int64 [n] or `IndexRanges`, images whose labels are never used.
        validation: int64 [n], labeled images for selecting the best checkpoint.
        seed: The seed of the split.
        selection: How the labeled images were chosen.
        fingerprint: `DatasetInfo.fingerprint` of the dataset.
        class_names: The class names of a dataset with a fingerprint, in the order of their ids.
    """

    labeled: np.ndarray
    unlabeled: np.ndarray | IndexRanges
    validation: np.ndarray
    seed: int
    selection: str
    fingerprint: str | None = None
    class_names: tuple[str, ...] | None = None

    def save(self, path: Path) -> None:
        """Write the split as JSON."""
        content = {
            "schema": 1,
            "seed": self.seed,
            "selection": self.selection,
            **({} if self.fingerprint is None else {"fingerprint": self.fingerprint}),
            **({} if self.class_names is None else {"class_names": list(self.class_names)}),
            **{part: _as_json(getattr(self, part)) for part in PARTS},
        }
        write_text(path, json.dumps({**content, "sha256": json_checksum(content)}))

    @classmethod
    def load(cls, path: Path) -> Split:
        """Read a split that `save` wrote.

        Raises:
            UserError: The file is missing, damaged or not a split.
        """
        try:
            content = json.loads(path.read_text())
            # Files of old versions have no checksum.
            checksum = content.pop("sha256", None)
            if checksum not in (None, json_checksum(content)):
                raise ValueError("the checksum does not match the content")
            parts = {part: _from_json(content[part]) for part in PARTS}
            return cls(
                **parts,
                seed=content["seed"],
                selection=content["selection"],
                fingerprint=content.get("fingerprint"),
                class_names=tuple(content["class_names"]) if "class_names" in content else None,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{path}: can't be read as a split ({type(error).__name__}: {error}); restore the "
                "file, or start a new run with another --run-dir"
            ) from error

    def check(
        self,
        num_images: int,
        fingerprint: str | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        """Check that the sets are disjoint, and that the dataset has not changed.

        Args:
            num_images: The number of training images.
            fingerprint: `DatasetInfo.fingerprint` of the dataset.
            class_names: The dataset's class names; None leaves them unchecked.

        Raises:
            UserError: The check fails.
        """
        if class_names is not None and self.class_names not in (None, class_names):
            own = set(self.class_names or ())
            new, old = sorted(set(class_names) - own), sorted(own - set(class_names))
            raise UserError(
                f"split.json: the class names are not those that the run started with (new: "
                f"{', '.join(new[:10]) or 'none'}; missing: {', '.join(old[:10]) or 'none'}); "
                "restore the names, or start a new run with another --run-dir"
            )
        if fingerprint != self.fingerprint:
            raise UserError(
                "split.json: the images are not those that the run started with (some were added, "
                "removed, changed or moved to another class); restore them, or start a new run "
                "with another --run-dir"
            )
        bounds = np.concatenate([_bounds(getattr(self, part)) for part in PARTS])
        bounds = bounds[np.argsort(bounds[:, 0], kind="stable")]
        inside = len(bounds) == 0 or (bounds[0, 0] >= 0 and bounds[-1, 1] <= num_images)
        if not inside or np.any(bounds[1:, 0] < bounds[:-1, 1]):
            raise UserError(
                f"split.json: has images twice or outside the {num_images} of the dataset; it "
                "was changed or belongs to another dataset; start a new run with another --run-dir"
            )


PARTS = ("labeled", "unlabeled", "validation")


def _bounds(indices: np.ndarray | IndexRanges) -> np.ndarray:
    """Ranges, int64 [k, 2]; unlike `IndexRanges.of`, duplicate indices are kept."""
    if isinstance(indices, IndexRanges):
        return indices.bounds
    return np.stack([indices, indices + 1], axis=1)


def _as_json(indices: np.ndarray | IndexRanges) -> Any:
    if len(indices) > _MAX_LISTED and not isinstance(indices, IndexRanges):
        ranges = IndexRanges.of(indices)
        indices = ranges if 2 * len(ranges.bounds) < len(indices) else indices
    if isinstance(indices, IndexRanges):
        return {"ranges": indices.bounds.tolist()}
    return indices.tolist()


def _from_json(value: Any) -> np.ndarray | IndexRanges:
    return IndexRanges(value["ranges"]) if isinstance(value, dict) else np.asarray(value, np.int64)


class Sizes(NamedTuple):
    """The number of images of each set of a split."""

    labeled: int
    validation: int
    unlabeled: int


def split_sizes(
    total: int,
    num_classes: int,
    labeled: int | None,
    validation: int | None,
    unlabeled: int | None,
    known: int | None = None,
    validation_from: ValidationSource = "rest",
) -> Sizes:
    """Compute the sizes of a split without reading images.

    Args:
        total: The number of training images.
        num_classes: The number of classes.
        labeled: Images whose labels the loss uses; None for all labeled images outside the
            validation set.
        validation: Images held out from training; None for a tenth of the labeled images, but ten
            per class if that takes at most a fifth of them, and at least one per class.
        unlabeled: Images without labels; None for all others.
        known: The number of images that have a label; None if all have one.
        validation_from: "rest" holds out images beside `labeled`; "labeled" holds out a part of
            `labeled`, so that no other label is used and all other images are unlabeled.

    Returns:
        The sizes; `labeled` is without the validation set.

    Raises:
        InvalidSettings: There are too few images, or fewer labeled images than classes.

    Example:
        >>> split_sizes(1000, 10, None, None, None, known=100)
        Sizes(labeled=80, validation=20, unlabeled=900)
        >>> split_sizes(60_000, 10, 10_000, None, None, validation_from="labeled")
        Sizes(labeled=9000, validation=1000, unlabeled=50000)
    """
    known = total if known is None else known
    if validation_from == "labeled" and labeled is not None:
        part = split_sizes(labeled, num_classes, None, validation, 0)
        labeled, validation = part.labeled, part.validation
    if validation is None:
        enough = min(VALIDATION_PER_CLASS * num_classes, known // 5)
        validation = max(num_classes, round(known / 10), enough)
        # Few labels: each class keeps one for training.
        spare = known - (num_classes if labeled is None else labeled)
        validation = max(1, min(validation, spare))
    if labeled is None:
        labeled = max(0, known - validation)
    problems = []
    wanted = labeled + validation + (unlabeled or 0)
    if wanted > total:
        problems.append(
            f"data: got labeled + validation + unlabeled = {wanted}; allowed: at most the "
            f"{total} training images"
        )
    elif labeled + validation > known:
        problems.append(
            f"data: got labeled + validation = {labeled + validation}; allowed: at most the "
            f"{known} training images that have a label"
        )
    if labeled < num_classes:
        problems.append(
            f"data.labeled: got {labeled}; allowed: at least {num_classes}, one for each class"
        )
    if problems:
        raise InvalidSettings(problems)
    rest = total - labeled - validation
    return Sizes(labeled, validation, rest if unlabeled is None else unlabeled)


def make_split(
    labels: np.ndarray,
    num_classes: int,
    labeled: int | None,
    validation: int | None,
    unlabeled: int | None = None,
    selection: Selection = "stratified",
    seed: int = 0,
    validation_from: ValidationSource = "rest",
) -> Split:
    """Draw a split.

    Args:
        labels: int32 [n], class ids of the training images, -1 for an unlabeled image.
        num_classes: The number of classes.
        labeled: See `split_sizes`.
        validation: See `split_sizes`; the validation set is stratified.
        unlabeled: See `split_sizes`.
        selection: "stratified" keeps the class frequencies among the labeled images, with at
            least one image of each class, also in the validation set where there are enough;
            "random" draws them uniformly, as in patent CN111401445A, [0217]; "first" takes the
            first images, as the paper's code does.
        seed: The seed of the draw.
        validation_from: See `split_sizes`.

    Returns:
        The split.

    Raises:
        InvalidSettings: There are too few images, or a class has no labeled image.

    Example:
        >>> split = make_split(np.arange(20) % 2, 2, labeled=4, validation=6)
        >>> len(split.labeled), len(split.unlabeled), len(split.validation)
        (4, 10, 6)
    """
    order = np.flatnonzero(labels >= 0)
    labeled, validation, unlabeled = split_sizes(
        len(labels), num_classes, labeled, validation, unlabeled, len(order), validation_from
    )
    generator = np.random.default_rng(seed)
    if selection == "stratified":
        held_out, rest = _take_stratified(
            generator.permutation(order), labels, validation, generator, left=1
        )
        chosen, rest = _take_stratified(rest, labels, labeled, generator)
    else:
        order = generator.permutation(order) if selection == "random" else order
        own = validation if validation_from == "labeled" else 0
        chosen, rest = order[: labeled + own], generator.permutation(order[labeled + own :])
        if own:
            held_out, chosen = _take_stratified(
                generator.permutation(chosen), labels, own, generator, left=1
            )
        else:
            held_out, rest = _take_stratified(rest, labels, validation, generator)
    missing = sorted(set(range(num_classes)) - set(labels[chosen].tolist()))
    if missing:
        hint = "label one of each" if selection == "stratified" else "use selection 'stratified'"
        raise InvalidSettings(
            [
                f"data.labeled: got {labeled} images with none of class {missing}; allowed: "
                f"enough for every class ({hint})"
            ]
        )
    if len(order) < len(labels):
        rest = np.concatenate([generator.permutation(np.flatnonzero(labels < 0)), rest])
    rest = rest[:unlabeled]
    return Split(np.sort(chosen), np.sort(rest), np.sort(held_out), seed, selection)


def window(total: int, num_classes: int, labeled: int, validation: int) -> int:
    """Return the number of first records from which a streamed split draws labeled images.

    Four times the drawn number, and a hundred per class: class frequencies are then close to
    those of the whole dataset.

    Example:
        >>> window(1_281_167, 1000, labeled=50_000, validation=5_000)
        220000
    """
    return min(total, max(4 * (labeled + validation), 100 * num_classes))


def make_streamed_split(
    read_labels: Callable[[int], np.ndarray],
    total: int,
    num_classes: int,
    labeled: int | None,
    validation: int | None,
    unlabeled: int | None = None,
    selection: Selection = "stratified",
    seed: int = 0,
    validation_from: ValidationSource = "rest",
) -> Split:
    """Draw a split of a dataset that is not loaded.

    Labeled and validation images are drawn from a `window` of first records; all others are
    unlabeled, and their labels are never read. The records must be in random order; TFDS shuffles
    them when it prepares a dataset.

    Args:
        read_labels: A function count -> int32 [count], the labels of the first records.
        total: The number of training records.
        num_classes: The number of classes.
        labeled: See `split_sizes`.
        validation: See `split_sizes`.
        unlabeled: See `split_sizes`.
        selection: See `make_split`.
        seed: The seed of the draw.
        validation_from: See `split_sizes`.

    Returns:
        The split; `unlabeled` is `IndexRanges`.

    Raises:
        InvalidSettings: There are too few images, or a class has no labeled image.

    Example:
        >>> split = make_streamed_split(lambda n: np.arange(n) % 2, 10**8, 2, 100, 100)
        >>> len(split.labeled), len(split.unlabeled)
        (100, 99999800)
    """
    sizes = split_sizes(
        total, num_classes, labeled, validation, unlabeled, validation_from=validation_from
    )
    labels = read_labels(window(total, num_classes, sizes.labeled, sizes.validation))
    wanted = sizes.labeled + (sizes.validation if validation_from == "labeled" else 0)
    drawn = make_split(
        labels, num_classes, wanted, sizes.validation, 0, selection, seed, validation_from
    )
    rest = IndexRanges.of(np.concatenate([drawn.labeled, drawn.validation])).complement(total)
    return dataclasses.replace(drawn, unlabeled=rest if unlabeled is None else rest.head(unlabeled))


def _take_stratified(
    pool: np.ndarray,
    labels: np.ndarray,
    count: int,
    generator: np.random.Generator,
    left: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Take `count` images of a shuffled pool, in proportion to the class frequencies.

    If `count` suffices, at least one image of each class is taken, and `left` images of each
    class stay in the pool.
    """
    classes, sizes = np.unique(labels[pool], return_counts=True)
    exact = count * sizes / max(1, len(pool))
    shares = np.floor(exact).astype(int)
    # Largest remainder method; ties are broken at random.
    by_remainder = np.lexsort((generator.random(len(classes)), shares - exact))
    shares[by_remainder[: count - shares.sum()]] += 1
    shares = _bounded(shares, exact, np.maximum(sizes - left, 0))
    taken = np.concatenate(
        [pool[labels[pool] == c][:share] for c, share in zip(classes, shares, strict=True)]
        or [pool[:0]]
    )
    return taken, pool[~np.isin(pool, taken)]


def _bounded(shares: np.ndarray, exact: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Move shares, which are near `exact`, to 1 … most where their sum allows it.

    Shares that are in that range already are returned unchanged.
    """
    count = shares.sum()
    least = np.minimum(1, most)
    if least.sum() > count:
        least = np.zeros_like(shares)
    if most.sum() < count:
        return shares
    shares = np.clip(shares, least, most)
    while (excess := shares.sum() - count) != 0:
        step = 1 if excess < 0 else -1
        movable = shares < most if excess < 0 else shares > least
        shares[np.argmax(np.where(movable, step * (exact - shares), -np.inf))] += step
    return shares
