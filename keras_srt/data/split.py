"""Which training images are labeled, unlabeled and for validation."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.files import write_text
from keras_srt.data.index_ranges import IndexRanges

Selection = Literal["stratified", "first"]

# Above so many indices split.json holds ranges, where these are fewer numbers.
_LISTED = 100_000


@dataclasses.dataclass(frozen=True)
class Split:
    """Indices into the training part of a dataset; no image is in two of them.

    Attributes:
        labeled: int64, images whose label the loss sees.
        unlabeled: int64, images whose label nothing sees; `IndexRanges` where they are many.
        validation: int64, images (with labels) for choosing the best checkpoint.
        seed: what the split was drawn with.
        selection: how the labeled images were chosen.
        fingerprint: of the images that the indices stand for, where they may change; or None.
    """

    labeled: np.ndarray
    unlabeled: np.ndarray | IndexRanges
    validation: np.ndarray
    seed: int
    selection: str
    fingerprint: str | None = None

    def save(self, path: Path) -> None:
        """Writes the split as JSON."""
        content = {
            "schema": 1,
            "seed": self.seed,
            "selection": self.selection,
            **({} if self.fingerprint is None else {"fingerprint": self.fingerprint}),
            **{part: _as_json(getattr(self, part)) for part in PARTS},
        }
        write_text(path, json.dumps({**content, "sha256": _digest(content)}))

    @classmethod
    def load(cls, path: Path) -> Split:
        """Reads a split that `save` wrote.

        Raises:
            UserError: the file is missing, truncated or not a split.
        """
        try:
            content = json.loads(path.read_text())
            # A version before this one wrote none.
            digest = content.pop("sha256", None)
            if digest not in (None, _digest(content)):
                raise ValueError("its digest doesn't fit its content")
            parts = {part: _from_json(content[part]) for part in PARTS}
            return cls(
                **parts,
                seed=content["seed"],
                selection=content["selection"],
                fingerprint=content.get("fingerprint"),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{path}: can't be read as a split ({type(error).__name__}: {error}); restore the "
                "file, or start anew with another --run-dir"
            ) from error

    def check(self, num_images: int, fingerprint: str | None = None) -> None:
        """Checks that the parts are disjoint and inside the dataset, which is the same as before.

        Args:
            num_images: images of the training part.
            fingerprint: of these images, or None.

        Raises:
            UserError: they are not.
        """
        if fingerprint != self.fingerprint:
            raise UserError(
                "split.json: the images are not those that the run began with (some were added, "
                "removed, changed or moved to another class); restore them, or start anew with "
                "another --run-dir"
            )
        bounds = np.concatenate([_bounds(getattr(self, part)) for part in PARTS])
        bounds = bounds[np.argsort(bounds[:, 0], kind="stable")]
        inside = len(bounds) == 0 or (bounds[0, 0] >= 0 and bounds[-1, 1] <= num_images)
        if not inside or np.any(bounds[1:, 0] < bounds[:-1, 1]):
            raise UserError(
                f"split.json: has images twice or outside the {num_images} of the dataset; it "
                "was changed or belongs to another dataset; start anew with another --run-dir"
            )


PARTS = ("labeled", "unlabeled", "validation")


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _bounds(indices: np.ndarray | IndexRanges) -> np.ndarray:
    """int64 [k, 2]; unlike `IndexRanges.of` this keeps an index that is there twice."""
    if isinstance(indices, IndexRanges):
        return indices.bounds
    return np.stack([indices, indices + 1], axis=1)


def _as_json(indices: np.ndarray | IndexRanges) -> Any:
    if len(indices) > _LISTED and not isinstance(indices, IndexRanges):
        ranges = IndexRanges.of(indices)
        indices = ranges if 2 * len(ranges.bounds) < len(indices) else indices
    if isinstance(indices, IndexRanges):
        return {"ranges": indices.bounds.tolist()}
    return indices.tolist()


def _from_json(value: Any) -> np.ndarray | IndexRanges:
    return IndexRanges(value["ranges"]) if isinstance(value, dict) else np.asarray(value, np.int64)


class Sizes(NamedTuple):
    """Images of each part of a split."""

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
) -> Sizes:
    """The sizes of a split, before any image is read.

    Args:
        total: images of the training part.
        num_classes: how many classes there are.
        labeled: images whose labels the loss sees; None for all that have one and are not
            for validation.
        validation: images held back from training; None for a tenth of those with a label,
            at least one for each class.
        unlabeled: images without labels; None for all the rest.
        known: how many of the images have a label; None for all.

    Raises:
        InvalidSettings: there are too few images, or fewer labels than classes.

    Example:
        >>> split_sizes(1000, 10, None, None, None, known=100)
        Sizes(labeled=90, validation=10, unlabeled=900)
    """
    known = total if known is None else known
    if validation is None:
        validation = max(num_classes, round(known / 10))
    if labeled is None:
        labeled = max(0, known - validation)
    problems = []
    wanted = labeled + validation + (unlabeled or 0)
    if wanted > total:
        problems.append(
            f"data: got labeled + validation + unlabeled = {wanted}; allowed: at most the "
            f"{total} images of the training part"
        )
    elif labeled + validation > known:
        problems.append(
            f"data: got labeled + validation = {labeled + validation}; allowed: at most the "
            f"{known} images of the training part that have a label"
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
) -> Split:
    """Draws a split.

    Args:
        labels: int32 [n], class ids of the training part, -1 for an image that has none.
        num_classes: how many classes there are.
        labeled: images whose labels the loss sees; None as for `split_sizes`.
        validation: images held back from training, stratified; None as for `split_sizes`.
        unlabeled: images without labels, or None for all the rest.
        selection: "stratified" gives each class its share; "first" takes the first ones,
            as the paper's code does.
        seed: of the draw.

    Returns:
        The split.

    Raises:
        InvalidSettings: there are too few images, or fewer labels than classes.

    Example:
        >>> split = make_split(np.arange(20) % 2, 2, labeled=4, validation=6)
        >>> len(split.labeled), len(split.unlabeled), len(split.validation)
        (4, 10, 6)
    """
    order = np.flatnonzero(labels >= 0)
    sizes = split_sizes(len(labels), num_classes, labeled, validation, unlabeled, len(order))
    labeled, validation, unlabeled = sizes
    generator = np.random.default_rng(seed)
    if selection == "first":
        chosen = order[:labeled]
        rest = generator.permutation(order[labeled:])
        held_back, rest = _take_stratified(rest, labels, validation, generator)
    else:
        held_back, rest = _take_stratified(
            generator.permutation(order), labels, validation, generator
        )
        chosen, rest = _take_stratified(rest, labels, labeled, generator)
    missing = sorted(set(range(num_classes)) - set(labels[chosen].tolist()))
    if missing:
        raise InvalidSettings(
            [
                f"data.labeled: got {labeled} images with none of class {missing}; allowed: "
                "enough for each class (raise data.labeled, or use the selection 'stratified')"
            ]
        )
    if len(order) < len(labels):
        rest = np.concatenate([generator.permutation(np.flatnonzero(labels < 0)), rest])
    rest = rest[:unlabeled]
    return Split(np.sort(chosen), np.sort(rest), np.sort(held_back), seed, selection)


def window(total: int, num_classes: int, labeled: int, validation: int) -> int:
    """How many of the first records of a streamed dataset the labeled ones are chosen from.

    Four times as many as are wanted, and a hundred of each class: the classes' shares among
    them are close to those of the whole, and the draw has something to choose.

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
) -> Split:
    """Draws a split of a dataset that is not loaded.

    Labeled and validation images are drawn from a `window` of first records; all others are
    unlabeled, and their labels are never read. That takes for granted that the records lie
    in random order, as TFDS shuffles them when it prepares a dataset.

    Args:
        read_labels: count -> int32, the labels of that many first records.
        total: records of the training part.
        num_classes: how many classes there are.
        labeled: images whose labels the loss sees.
        validation: images held back from training; stratified.
        unlabeled: images without labels, the first ones that are left; None for all.
        selection: as for `make_split`, among the first records.
        seed: of the draw.

    Returns:
        The split; `unlabeled` is `IndexRanges`.

    Raises:
        InvalidSettings: there are too few images, or fewer labels than classes.

    Example:
        >>> split = make_streamed_split(lambda n: np.arange(n) % 2, 10**8, 2, 100, 100)
        >>> len(split.labeled), len(split.unlabeled)
        (100, 99999800)
    """
    sizes = split_sizes(total, num_classes, labeled, validation, unlabeled)
    labels = read_labels(window(total, num_classes, sizes.labeled, sizes.validation))
    drawn = make_split(labels, num_classes, sizes.labeled, sizes.validation, 0, selection, seed)
    rest = IndexRanges.of(np.concatenate([drawn.labeled, drawn.validation])).complement(total)
    return dataclasses.replace(drawn, unlabeled=rest if unlabeled is None else rest.head(unlabeled))


def _take_stratified(
    pool: np.ndarray, labels: np.ndarray, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Takes `count` of a shuffled pool so that each class keeps its share."""
    classes, sizes = np.unique(labels[pool], return_counts=True)
    exact = count * sizes / max(1, len(pool))
    shares = np.floor(exact).astype(int)
    # Largest remainders get what flooring left over; ties are broken by the seed.
    by_remainder = np.lexsort((generator.random(len(classes)), shares - exact))
    shares[by_remainder[: count - shares.sum()]] += 1
    taken = np.concatenate(
        [pool[labels[pool] == c][:share] for c, share in zip(classes, shares, strict=True)]
        or [pool[:0]]
    )
    return taken, pool[~np.isin(pool, taken)]
