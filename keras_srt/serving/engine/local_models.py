"""Models that this process serves itself, from their folders."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.serving.engine.batching import Batcher, Outputs
from keras_srt.serving.engine.image_decoder import Decoder
from keras_srt.serving.engine.loaded_model import LoadedModel
from keras_srt.serving.engine.model_folder import ModelFolder, Watch, find_versions
from keras_srt.serving.http.limits import Limits
from keras_srt.serving.http.metrics import Metrics
from keras_srt.serving.http.predict_request import PredictRequest, parse_json, read_request
from keras_srt.serving.http.predict_response import answer_document
from keras_srt.serving.http.protocol import RequestError, Target, status_document, to_json
from keras_srt.serving.http.signatures import IMAGE_SIGNATURE

# A larger body is parsed in a thread, and one at a time, for the memory that it takes.
_SMALL_BODY = 2**16


class _Key(NamedTuple):
    """What images must have in common to share a batch.

    `shape` is what encoded images are decoded to, and None for those that are decoded.
    """

    model: LoadedModel
    signature: str
    shape: tuple[int, int, int] | None = None
    large: bool = False


class LocalModels:
    """Answers requests with SavedModels of its own.

    Args:
        folders: `saved_models/<name>`, one for each model.
        limits: of the server.
        metrics: that count images and versions.
        tell: called with a line for the operator.

    Raises:
        UserError: a folder has no version that can be loaded, or two have one name.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        limits: Limits,
        metrics: Metrics,
        tell: Callable[[str], None],
    ) -> None:
        self._limits, self._metrics = limits, metrics
        self._models = {folder.resolve().name: ModelFolder(folder, tell) for folder in folders}
        if len(self._models) < len(folders):
            raise UserError("--model: two folders have the same name; a name serves one model")
        for model in self._models.values():
            model.refresh()
            if model.current is None:
                raise UserError(_nothing_loads(model))
            metrics.watch_version(model.name, partial(_served_version, model))
        self._decoder = Decoder(limits)
        self._batcher = Batcher(self._run, limits.max_batch)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._watch = Watch(list(self._models.values()))

    async def names(self) -> list[str]:
        """Of all models."""
        return sorted(self._models)

    async def status(self, target: Target) -> bytes:
        """The JSON of `GET /v1/models/NAME[/versions/N]`."""
        if target.name not in self._models:
            raise RequestError(404, f"Could not find any versions of model {target.name}")
        return to_json(status_document(target, self._models[target.name].states()))

    async def metadata(self, target: Target) -> bytes:
        """The JSON of `GET /v1/models/NAME[/versions/N]/metadata`."""
        return to_json(self._find(target).signatures.metadata)

    async def predict(self, target: Target, body: bytes) -> bytes:
        """Answers `POST /v1/models/NAME[/versions/N]:predict`.

        Args:
            target: the model.
            body: of the request.

        Returns:
            The JSON.

        Raises:
            RequestError: the request can't be answered.
        """
        large, limits = len(body) > _SMALL_BODY, self._limits
        document = await self._read(large, parse_json, body, limits)
        model = self._find(target)
        request = await self._read(large, read_request, document, model.signatures, limits)
        del document, body  # of megabytes, perhaps, while it waits
        outputs = await self._answer(model, target.name, request)
        return to_json(answer_document(outputs, request.rows))

    def close(self) -> None:
        """Finishes what was begun and ends all threads."""
        self._watch.stop()
        self._batcher.close()
        self._decoder.close()
        self._reader.shutdown()

    def _find(self, target: Target) -> LoadedModel:
        folder = self._models.get(target.name)
        model = folder.current if folder is not None else None
        if model is None or target.version not in (None, model.version):
            raise target.missing()
        return model

    async def _read(self, large: bool, function: Callable[..., Any], *arguments: Any) -> Any:
        if not large:
            return function(*arguments)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, function, *arguments)

    async def _answer(self, model: LoadedModel, name: str, request: PredictRequest) -> Outputs:
        """In parts, one after another, so that a large request lets others in between."""
        parts = []
        for key, items in self._parts(model, request):
            if key.shape is not None and key.large:
                images = await self._decoder.decode_large(items[0][0], key.shape)
                key, items = key._replace(shape=None, large=False), [(images[0],)]
            outputs = await asyncio.wrap_future(self._batcher.submit(key, items))
            self._metrics.count_images(name, outputs)
            parts.append(outputs)
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _parts(self, model: LoadedModel, request: PredictRequest) -> Iterator[tuple[_Key, list]]:
        shape = model.signatures.image_shape
        if shape is not None and model.signatures.is_encoded(request.signature):
            (images,) = request.inputs.values()
            for part in self._decoder.parts(images):
                key = _Key(model, IMAGE_SIGNATURE, shape, part.large)
                yield key, [(image,) for image in part.images]
            return
        items = list(zip(*request.inputs.values(), strict=True))
        key, size = _Key(model, request.signature.name), self._limits.max_batch
        for start in range(0, len(items), size):
            yield key, items[start : start + size]

    def _run(self, key: _Key, items: list[tuple[Any, ...]]) -> Outputs:
        """Called in a worker thread, so that no more is decoded than is run next."""
        columns = list(zip(*items, strict=True))
        if key.shape is not None:
            arrays = [self._decoder.decode(columns[0], key.shape)]
        else:
            arrays = [_stacked(column) for column in columns]
        names = key.model.signatures.find(key.signature).inputs
        return key.model.run(key.signature, dict(zip(names, arrays, strict=True)))


def _stacked(rows: Sequence[Any]) -> np.ndarray:
    if isinstance(rows[0], bytes):
        return np.array(rows, object)
    return np.stack(rows)


def _served_version(model: ModelFolder) -> float:
    return math.nan if model.current is None else model.current.version


def _nothing_loads(model: ModelFolder) -> str:
    errors = [state.error for state in model.states() if state.error]
    if errors:
        return f"{model.folder}: no version in it can be loaded ({errors[0]})"
    return (
        f"{model.folder}: no model there; give a folder that holds versions (1, 2, …), as "
        "`keras-srt export` makes them in saved_models/NAME"
    )


def find_models(root: Path) -> list[Path]:
    """The model folders in a folder.

    Args:
        root: as `saved_models`.

    Returns:
        Those of its folders that have versions, by name.

    Raises:
        UserError: there is none.

    Example:
        >>> find_models(Path("no-such-folder"))
        Traceback (most recent call last):
        ...
        keras_srt.core.errors.UserError: no-such-folder: no model there; publish one by `keras-srt
        export --run runs/NAME`, or give its folder by --model
    """
    folders = sorted(root.iterdir()) if root.is_dir() else []
    found = [folder for folder in folders if folder.is_dir() and find_versions(folder)]
    if not found:
        raise UserError(
            f"{root}: no model there; publish one by `keras-srt export --run runs/NAME`, or give "
            "its folder by --model"
        )
    return found
