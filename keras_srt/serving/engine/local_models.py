"""Models that this process loads and serves."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.version_folders import version_folders
from keras_srt.serving.engine.batching import Batcher, Outputs
from keras_srt.serving.engine.flip_attack import FlipAttacks, can_be_attacked, read_attack
from keras_srt.serving.engine.image_decoder import Decoder
from keras_srt.serving.engine.loaded_model import LoadedModel
from keras_srt.serving.engine.model_folder import ModelFolder, Watcher
from keras_srt.serving.engine.version_policy import LATEST, VersionPolicy
from keras_srt.serving.http.limits import Limits
from keras_srt.serving.http.metrics import Metrics
from keras_srt.serving.http.page import page_document
from keras_srt.serving.http.predict_request import PredictRequest, parse_json, read_request
from keras_srt.serving.http.predict_response import response_document
from keras_srt.serving.http.protocol import RequestError, Target, status_document, to_json
from keras_srt.serving.http.signatures import IMAGE_SIGNATURE, Signatures

# Larger bodies are parsed in a single thread, one at a time, to bound memory.
_SMALL_BODY = 2**16
# Other requests delay each query of an attack by up to this many seconds.
_PATIENCE = 0.1
ReadRequest = Callable[[Signatures, Limits], PredictRequest]


class _Key(NamedTuple):
    """Properties that all images of a batch share.

    `shape` is the shape to which encoded images are decoded, and None for decoded images.
    """

    model: LoadedModel
    signature: str
    shape: tuple[int, int, int] | None = None
    large: bool = False


class Answer(NamedTuple):
    """A request, its outputs, and the version that computed them."""

    request: PredictRequest
    outputs: Outputs
    version: int


class LocalModels:
    """Loads SavedModels and runs requests on them.

    Args:
        folders: `saved_models/<name>`, one for each model.
        limits: Limits of the server.
        metrics: Metrics that count images and show versions.
        foreign: Whether to load SavedModels with any operations, see `load_savedmodel`.
        policy: The versions to serve.
        root: A folder such as `saved_models`, whose new models are served, too.

    Raises:
        UserError: A folder has no loadable version, or two folders have the same name.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        limits: Limits,
        metrics: Metrics,
        foreign: bool = False,
        policy: VersionPolicy = LATEST,
        root: Path | None = None,
    ) -> None:
        if len({folder.resolve().name for folder in folders}) < len(folders):
            raise UserError("--model: two folders have the same name; a name serves one model")
        self._limits, self._metrics, self._root = limits, metrics, root
        load = partial(LoadedModel, foreign=foreign)
        self._make_model = partial(ModelFolder, load=load, policy=policy)
        # Replaced as a whole, because the watcher adds models.
        self._models: dict[str, ModelFolder] = {}
        for folder in folders:
            model = self._add(folder)
            if model.current is None:
                raise UserError(_no_version_message(model))
        self._decoder = Decoder(limits)
        self._batcher = Batcher(self._run, limits.max_batch)
        self._attacks = FlipAttacks(limits)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._watcher = Watcher(self._refresh)

    async def names(self) -> list[str]:
        """Return the names of all models with a loaded version."""
        models = self._models
        return sorted(name for name, model in models.items() if model.current is not None)

    async def status(self, target: Target) -> bytes:
        """Respond to `GET /v1/models/NAME[/versions/N]`."""
        model = self._models.get(target.name)
        if model is None:
            raise RequestError(404, f"Could not find any versions of model {target.name}")
        target = Target(target.name, model.version_of(target))
        return to_json(status_document(target, model.states()))

    async def metadata(self, target: Target) -> bytes:
        """Respond to `GET /v1/models/NAME[/versions/N]/metadata`."""
        return to_json(self._find(target).signatures.metadata)

    async def predict(self, target: Target, body: bytes) -> bytes:
        """Respond to `POST /v1/models/NAME[/versions/N]:predict`.

        Args:
            target: The model.
            body: Body of the request.

        Returns:
            The response as JSON.

        Raises:
            RequestError: The request is invalid, or the model is not served.
        """
        large = len(body) > _SMALL_BODY
        read = partial(read_request, await self._read(large, parse_json, body, self._limits))
        del body  # may be large, and the request may wait
        answer = await self.run(target, read, large)
        document = response_document(answer.outputs, answer.request.rows)
        return to_json(document, allow_nan=True)

    async def run(self, target: Target, read: ReadRequest, large: bool) -> Answer:
        """Run a request of any protocol.

        Args:
            target: The model.
            read: (signatures, limits) -> the request.
            large: Whether `read` takes long.

        Raises:
            RequestError: The request is invalid, or the model is not served.
        """
        model = self._find(target)
        request = await self._read(large, read, model.signatures, self._limits)
        del read
        return Answer(request, await self._run_request(model, target.name, request), model.version)

    async def page(self, target: Target) -> bytes:
        """Respond to the page's request for sample images and the queries per attack."""
        model = self._find(target)
        queries = self._limits.attack_queries if can_be_attacked(model.signatures) else 0
        return page_document(model.samples, queries)

    async def attack(self, target: Target, body: bytes) -> bytes:
        """Respond to the page's request for an attack, see `find_flip`.

        Raises:
            RequestError: 503, another attack is running; 403, attacks are off; 400 or 404, the
                request is invalid.
        """
        with self._attacks.places.hold(1):  # before parsing, so that a refusal takes no time
            large = len(body) > _SMALL_BODY
            document = await self._read(large, parse_json, body, self._limits)
            model = self._find(target)
            request = await self._read(large, read_attack, document, model.signatures, self._limits)
            classify = partial(self._query, target.name, model)
            return to_json(await self._attacks.run(classify, request), allow_nan=True)

    def close(self) -> None:
        """Complete running requests and stop all threads."""
        self._watcher.stop()
        self._attacks.close()
        self._batcher.close()
        self._decoder.close()
        self._reader.shutdown()

    def _add(self, folder: Path) -> ModelFolder:
        model = self._make_model(folder)
        model.refresh()
        self._models = {**self._models, model.name: model}
        self._metrics.watch_version(model.name, partial(_served_version, model))
        return model

    def _refresh(self) -> None:
        for model in self._models.values():
            model.refresh()
        for folder in () if self._root is None else _model_folders(self._root):
            if folder.resolve().name not in self._models:
                self._add(folder)

    def _find(self, target: Target) -> LoadedModel:
        model = self._models.get(target.name)
        if model is None:
            raise target.missing()
        return model.find(target)

    async def _read(self, large: bool, function: Callable[..., Any], *arguments: Any) -> Any:
        if not large:
            return function(*arguments)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, function, *arguments)

    def _query(self, name: str, model: LoadedModel, images: np.ndarray) -> Future[Outputs]:
        self._metrics.count_attack_queries(name, len(images))
        self._batcher.wait_until_idle(_PATIENCE)
        return self._batcher.submit(_Key(model, IMAGE_SIGNATURE), [(image,) for image in images])

    async def _run_request(self, model: LoadedModel, name: str, request: PredictRequest) -> Outputs:
        """Run the parts of a request in sequence, so that other requests can run in between."""
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
        """Decode and run a batch, in a worker thread, so that few decoded images are in memory."""
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


def _no_version_message(model: ModelFolder) -> str:
    errors = [state.error for state in model.states() if state.error]
    if errors:
        return f"{model.folder}: no version can be loaded ({errors[0]})"
    return (
        f"{model.folder}: contains no model; give a folder with versions (1, 2, …), as "
        "`keras-srt export` writes to saved_models/NAME"
    )


def find_models(root: Path) -> list[Path]:
    """List the model folders in a folder.

    Args:
        root: A folder such as `saved_models`.

    Returns:
        Its subfolders with versions, sorted by name.

    Raises:
        UserError: There is none.

    Example:
        >>> find_models(Path("no-such-folder"))
        Traceback (most recent call last):
        ...
        keras_srt.core.errors.UserError: no-such-folder: contains no model; export one with
        `keras-srt export --run runs/NAME`, or give its folder with --model
    """
    found = _model_folders(root)
    if not found:
        raise UserError(
            f"{root}: contains no model; export one with `keras-srt export --run runs/NAME`, or "
            "give its folder with --model"
        )
    return found


def _model_folders(root: Path) -> list[Path]:
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [folder for folder in folders if version_folders(folder)]
