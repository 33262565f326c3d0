"""A starting config for a folder of images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.formatting import printable
from keras_srt.core.images import FORMATS, BadImage, open_image
from keras_srt.data import DatasetInfo, Folder, FolderFiles, parallel_map
from keras_srt.data.image_lists import (
    find_parts,
    has_class_folders,
    loose_images,
    subfolders,
    walk,
)
from keras_srt.data.photo_decoder import (
    MAX_BYTES,
    MAX_PIXELS,
    read_bytes,
    read_error_reason,
    to_upright_rgb,
)
from keras_srt.folders.network_choice import Candidate

# Number of files to open, evenly spread over all files.
_SAMPLE_SIZE = 200
# Candidate input sizes; the largest that is at most the median photo size is chosen.
_SIZES = (28, 32, 48, 64, 96, 128, 160, 224)
# From this size on, images count as photos.
_PHOTOS = 64
# Images in no class folder are used without labels if they are at least this share of the labeled
# ones.
_WORTH_USING = 0.05
# Validations of a training, and test images that are attacked.
_VALIDATIONS, _EVALUATED = 20, 1000
# Larger datasets are streamed from disk, with a shuffle buffer of this many images.
_IN_MEMORY, _BUFFER = 2**30, 4096
_CHANNEL_SPREAD = 4
# With pretrained weights: the share of the steps that train only the last layer, and λ.
_FREEZE, _ROBUST_WEIGHT = 0.15, 2.0


class FolderSummary(NamedTuple):
    """Summary of an image folder, from a sample of its files.

    Attributes:
        num_labeled: Number of labeled files.
        num_unlabeled: Number of unlabeled files.
        classes: Class names.
        size: Suitable input height and width.
        channels: 1 if all sampled images are gray, else 3.
        unreadable: Number of sampled files that can't be read.
        opened: Number of sampled files.
    """

    num_labeled: int
    num_unlabeled: int
    classes: tuple[str, ...]
    size: int
    channels: int
    unreadable: int
    opened: int


def find_source(root: Path) -> Folder:
    """Make the dataset settings for the layout of a folder.

    Args:
        root: A folder with `labeled/`, `unlabeled/` and `test/`, or with `train/` and `val/` or
            `test/`, in lower or upper case; with a CSV file; or with one folder per class,
            and `unlabeled/` and `test/` beside them.

    Raises:
        UserError: The folder does not exist, has several CSV files, or two folders for one part.
    """
    if not root.is_dir():
        raise UserError(f"init: {root} is not a folder; allowed: a folder of images")
    parts: dict[str, str] = {}
    for name, part in (find_parts(root) or _labeled_alone(root)).items():
        if part in parts:
            raise UserError(
                f"init: {root} holds {Path(parts[part]).name} and {name}, both for {part} images; "
                "allowed: one of them"
            )
        parts[part] = (root / name).as_posix()
    loose = loose_images(root)
    # Without test images, the validation folder is the test set; the validation set of a run is
    # drawn from the training images.
    test = parts.get("test") or parts.get("validation")
    if test is not None and not has_class_folders(Path(test)):
        test = None
    tables = [] if "labeled" in parts else sorted(root.glob("*.csv"))
    if not tables:
        labeled, unlabeled = parts.get("labeled", root.as_posix()), parts.get("unlabeled")
        _check_class_folders(Path(labeled), loose)
        # A folder above the other parts adds its own images.
        if loose and set(parts) <= {"labeled", "unlabeled", "test"}:
            count = sum(1 for path in walk(Path(labeled)) if path.parent != root)
            unlabeled = root.as_posix() if len(loose) >= _WORTH_USING * count else unlabeled
        return Folder(labeled=labeled, unlabeled=unlabeled, test=test)
    if len(tables) > 1:
        named = ", ".join(path.name for path in tables)
        raise UserError(
            f"init: {root} holds {named}; allowed: one CSV, with the columns path,label"
        )
    return Folder(csv=tables[0].as_posix())


def _check_class_folders(labeled: Path, loose: Sequence[Path]) -> None:
    if not subfolders(labeled):
        found = f", but {len(loose):,} images without labels" if loose else ""
        raise UserError(
            f"init: {labeled} has no class folders{found}; put a few images of each class into "
            f"{labeled}/CLASS, or add a CSV with the columns path,label"
        )


def _labeled_alone(root: Path) -> dict[str, str]:
    """The folder of labeled images if there is no other part."""
    return {name: "labeled" for name in subfolders(root) if name.casefold() == "labeled"}


def unused_parts(root: Path, source: Folder) -> list[str]:
    """Describe the parts of a dataset that `find_source` leaves out, and images in no part."""
    used = {source.labeled, source.unlabeled, source.test}
    unused = [name for name in find_parts(root) if (root / name).as_posix() not in used]
    lines = [
        f"warning: {root / name} is not used"
        + ("" if has_class_folders(root / name) else ", because it has no class folders")
        for name in unused
    ]
    loose = [] if source.csv is not None else loose_images(root)
    if loose and source.unlabeled == root.as_posix():
        lines.append(f"note: {len(loose):,} images in {root} itself are used without labels")
    elif loose and source.labeled != root.as_posix():  # else listing the classes warns
        lines.append(f"warning: {len(loose):,} images in {root} itself are not used")
    return lines


def look(parts: FolderFiles) -> FolderSummary:
    """Open a sample of the files and summarize the folder.

    Args:
        parts: The files of the folder.

    Raises:
        UserError: None of the sampled files can be read.
    """
    files = [*parts.labeled.files, *parts.unlabeled]
    chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, _SAMPLE_SIZE, dtype=int))]
    found = list(parallel_map(_shape, chosen, "reading"))
    shapes = [shape for shape in found if shape is not None]
    if not shapes:
        raise UserError(
            f"init: none of {len(chosen)} files can be read, such as {chosen[0]}: "
            f"{_reason(chosen[0])}; allowed: existing files in the formats {', '.join(FORMATS)}"
        )
    typical = np.median([min(height, width) for height, width, _ in shapes])
    return FolderSummary(
        len(parts.labeled.files),
        len(parts.unlabeled),
        parts.labeled.classes,
        max((size for size in _SIZES if size <= typical), default=_SIZES[0]),
        3 if any(is_color for *_, is_color in shapes) else 1,
        len(found) - len(shapes),
        len(found),
    )


def _shape(path: Path) -> tuple[int, int, bool] | None:
    """Return height, width, and whether the image has colors; None if it can't be read."""
    try:
        with open_image(read_bytes(path), MAX_BYTES, MAX_PIXELS) as image:
            size = image.size
            image.draft("RGB", (256, 256))
            photo = to_upright_rgb(image)
    except (BadImage, OSError):
        return None
    if (photo.width > photo.height) != (size[0] > size[1]):
        size = size[::-1]
    small = np.int16(photo.resize((32, 32)))
    return size[1], size[0], bool(np.ptp(small, axis=-1).max() > _CHANNEL_SPREAD)


def _reason(path: Path) -> str:
    """Why a file can't be read."""
    try:
        with open_image(read_bytes(path), MAX_BYTES, MAX_PIXELS) as image:
            image.load()
    except (BadImage, OSError) as error:
        return read_error_reason(error)
    return "is not a photo"


def starting_config(
    name: str,
    source: Folder,
    seen: FolderSummary,
    network: Candidate,
    steps: int,
    epsilon: float | str | None = None,
) -> dict[str, Any]:
    """Make a config that trains on the images of a folder.

    Args:
        name: The name of the run.
        source: The dataset, from `find_source`.
        seen: The summary, from `look`.
        network: The network, and the size of its images and batches.
        steps: The number of steps of the training.
        epsilon: The radius of the noise; None for that of the kind of image.

    Returns:
        A config for `keras-srt train`, with a `smoke` variant.
    """
    found = {key: getattr(source, key) for key in ("labeled", "unlabeled", "csv", "test")}
    total = (seen.num_labeled + seen.num_unlabeled) * network.size**2 * seen.channels
    semi = seen.num_unlabeled > 0
    pretrained = "weights" in network.model
    threat = {"epsilon": _epsilon(seen, network.size) if epsilon is None else epsilon}
    # A training from pretrained weights takes minutes, and its evaluation shouldn't take longer.
    parts = 20 if pretrained else 50
    smoke = {"steps": 4, "batch_size": 16, "interval": 2}
    return {
        "name": name,
        "description": [
            f"keras-srt train --config {name}.json",
            "A starting point from `keras-srt init`; see docs/own-images.md for what to change.",
        ],
        "data": {
            "source": "folder",
            **{key: path for key, path in found.items() if path is not None},
            "size": network.size,
            "channels": seen.channels,
            "resize": source.resize,
            "shuffle_buffer": _BUFFER if total > _IN_MEMORY and semi else None,
        }
        | ({"augmentation": {"flip": True, "pad": network.size // 12}} if pretrained else {}),
        "model": network.model,
        "neighborhood": {"name": "linf", **threat, "num_steps": 5},
        "objective": {
            "name": "srt" if semi else "rt",
            "robust_weight": _ROBUST_WEIGHT if pretrained else 1.0,
        },
        "training": _training(seen, network, steps),
        "evaluation": {
            "attacks": [{"name": "fgsm", **threat}, {"name": "pgd", **threat, "num_steps": 20}],
            "limit": _EVALUATED,
            "batch_size": 100,
            "masking": parts,
            "curves": parts,
        },
        "variants": {
            "smoke": {
                "neighborhood": {"num_steps": 2},
                "training": smoke | ({"labeled_per_batch": 8} if semi else {}),
                "evaluation": {"limit": 16, "deployment": 0, "masking": 0, "curves": 0},
            }
        },
    }


def _training(seen: FolderSummary, network: Candidate, steps: int) -> dict[str, Any]:
    """Return the section `training`."""
    pretrained = "weights" in network.model
    training: dict[str, Any] = {
        "steps": steps,
        "batch_size": network.batch_size,
        # At 0.03, pretrained layers lost their features in the first steps after the frozen ones.
        "learning_rate": 0.01 if pretrained else 0.05,
        "schedule": {"name": "cosine"},
        "strength_warmup": 0.3,
        # Without these two settings, training can collapse to one class.
        "weight_warmup": 0.2,
        "gradient_clip": 1.0,
        "interval": max(1, steps // _VALIDATIONS),
    }
    if pretrained:
        training["freeze"] = _FREEZE
    if seen.num_unlabeled:
        # The proportional fraction would be too small with few labels.
        share = seen.num_labeled / (seen.num_labeled + seen.num_unlabeled)
        labeled = round(network.batch_size * min(0.75, max(0.25, share)))
        training["labeled_per_batch"] = labeled
    return training


def _epsilon(seen: FolderSummary, size: int) -> float | str:
    """Return the radius of the noise for a kind of image."""
    if seen.channels == 1 and size < _PHOTOS:
        return 0.1
    return "8/255" if size < _PHOTOS else "4/255"


def describe_threat(config: dict[str, Any]) -> str:
    """Describe the perturbations that a config of `starting_config` trains and tests against."""
    return (
        f"noise of up to {config['neighborhood']['epsilon']} in each pixel; rotation and other "
        "changes are not trained against, and not attacked"
    )


def dataset_info(source: Folder, seen: FolderSummary, size: int) -> DatasetInfo:
    """Describe the dataset as far as the cost of a step depends on it, without opening it."""
    test = 0 if source.test is not None else round(source.test_share * seen.num_labeled)
    labeled = max(2 * len(seen.classes), seen.num_labeled - test)
    return DatasetInfo(
        title="own images",
        input_shape=(size, size, seen.channels),
        class_names=seen.classes,
        num_train=labeled + seen.num_unlabeled,
        num_test=test,
        num_labeled=labeled,
    )


def description(seen: FolderSummary) -> list[str]:
    """Describe the folder in lines of text."""
    kind = "gray" if seen.channels == 1 else "color"
    lines = [
        f"images    {seen.num_labeled:,} labeled, {seen.num_unlabeled:,} unlabeled",
        f"classes   {len(seen.classes)}: {_some(seen.classes)}",
        f"size      {seen.size} x {seen.size}, {kind}, from a sample of {seen.opened:,} files",
    ]
    if seen.unreadable:
        lines.append(f"warning: {seen.unreadable:,} of the sampled files can't be read")
    return lines


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names[:8])) + (", …" if len(names) > 8 else "")


def as_text(config: dict[str, Any]) -> str:
    """Format the config as the text of its file."""
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"
