"""Finished parts of an evaluation, kept on disk so that an interrupted one continues."""

from __future__ import annotations

import contextlib
import json
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.attacks import QueryModel
from keras_srt.core import files

Arrays = dict[str, np.ndarray]
_SECONDS = "seconds"
# What a model counts; a part that is read adds its counts.
_COUNTERS = ("queries", "gradients", "vanished")


class FinishedParts:
    """Computes the parts of an evaluation, or reads those that an earlier process finished.

    Args:
        folder: The folder of the parts; None to keep nothing.
        **about: What all parts depend on, such as the checksum of the weights, as JSON values.

    Attributes:
        seconds: The duration of the parts that were read.

    Example:
        >>> model = QueryModel(lambda images: images[:, 0, 0], 10)
        >>> int(FinishedParts().compute("sum", {}, model, lambda: {"sum": np.int64(3)})["sum"])
        3
    """

    def __init__(self, folder: Path | None = None, **about: Any) -> None:
        self._folder, self._about = folder, about
        self.seconds = 0.0

    def compute(
        self,
        name: str,
        settings: Mapping[str, Any],
        model: QueryModel,
        function: Callable[[], Mapping[str, np.ndarray]],
    ) -> Arrays:
        """Return a part: read it, or compute it and write it.

        Args:
            name: The start of its file name.
            settings: What the part depends on, as JSON values.
            model: The model; the queries and gradients of a part that is read are added to its
                counts.
            function: Computes the part, without pickled arrays.

        Returns:
            The arrays of the part, with its `seconds`.
        """
        path = None
        if self._folder is not None:
            mark = files.json_checksum({"about": self._about, "name": name, **settings})
            path = self._folder / f"{name}-{mark[:16]}.npz"
            found = _read(path, mark)
            if found is not None:
                for counter in _COUNTERS:
                    setattr(model, counter, getattr(model, counter) + int(found.pop(counter)))
                self.seconds += float(found[_SECONDS])
                return found
        began, before = time.perf_counter(), _counts(model)
        part = {**function(), _SECONDS: np.float64(time.perf_counter() - began)}
        if path is not None:
            path.parent.mkdir(exist_ok=True)
            counted = {key: count - before[key] for key, count in _counts(model).items()}
            files.write_arrays(path, **part, **counted, mark=np.str_(mark))
        return part

    def compute_json(
        self,
        name: str,
        settings: Mapping[str, Any],
        model: QueryModel,
        function: Callable[[], Any],
    ) -> Any:
        """Return a part that is a JSON value; see `compute`."""
        part = self.compute(
            name, settings, model, lambda: {"json": np.str_(json.dumps(function()))}
        )
        return json.loads(str(part["json"]))


def _counts(model: QueryModel) -> Arrays:
    return {counter: np.int64(getattr(model, counter)) for counter in _COUNTERS}


def _read(path: Path, mark: str) -> Arrays | None:
    """Read a part; None if it is missing, damaged or of another evaluation."""
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        if str(found.pop("mark")) == mark:
            return found
    return None
