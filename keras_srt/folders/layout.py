"""Which parts of a folder of images are labeled, unlabeled and test images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from keras_srt.core.errors import UserError
from keras_srt.data import Folder
from keras_srt.data.image_lists import (
    find_parts,
    has_class_folders,
    loose_images,
    subfolders,
    walk,
)

# Images in no class folder are used without labels if they are at least this share of the labeled
# ones.
_WORTH_USING = 0.05


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
