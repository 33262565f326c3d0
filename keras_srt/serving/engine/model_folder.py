"""Model folders, of which some versions are served; new versions are loaded while serving."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from keras_srt.core.version_folders import version_folders
from keras_srt.serving.engine.loaded_model import LoadedModel
from keras_srt.serving.engine.version_policy import LATEST, VersionPolicy
from keras_srt.serving.http.protocol import RequestError, Target, VersionState

_LOG = logging.getLogger(__name__)
# Name, size and time of each file: if they change, loading a failed version is tried again.
_Contents = tuple[tuple[str, int, int], ...]


class ModelFolder:
    """`saved_models/<name>/`, of which the versions of a policy are served.

    A version that can't be loaded is tried again after its files change; the policy `latest` falls
    back to the next older version. If no version of the policy is left, the loaded ones stay.

    Args:
        folder: Folder with versions in subfolders named by whole numbers; others are ignored.
        load: Loads a model from (folder, name, version).
        policy: The versions to serve.

    Attributes:
        folder: As given.
        name: Name of the model, which is that of the folder.
        labels: Version by label.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[Path, str, int], LoadedModel] = LoadedModel,
        policy: VersionPolicy = LATEST,
    ) -> None:
        self.folder, self.name = folder, folder.resolve().name
        self.labels = policy.labels_of(self.name)
        self._latest, self._specific = policy.latest, policy.specific | set(self.labels.values())
        self._load = load
        # Replaced as a whole, because other threads read it.
        self._loaded: dict[int, LoadedModel] = {}
        self._failed: dict[int, _Contents] = {}
        self._states: dict[int, VersionState] = {}

    @property
    def current(self) -> LoadedModel | None:
        """The newest loaded version, or None."""
        loaded = self._loaded
        return loaded[max(loaded)] if loaded else None

    def find(self, target: Target) -> LoadedModel:
        """Find the version that a request asks for; a running request keeps it if it is replaced.

        Raises:
            RequestError: 400, unknown label; 404, the version is not loaded.
        """
        version = self.version_of(target)
        found = self.current if version is None else self._loaded.get(version)
        if found is None:
            raise target._replace(version=version).missing()
        return found

    def version_of(self, target: Target) -> int | None:
        """Return the version that a target names by number or label; None for the latest.

        Raises:
            RequestError: 400, unknown label.
        """
        if target.label is None:
            return target.version
        if target.label not in self.labels:
            raise RequestError(400, f"Unrecognized servable version label: {target.label}")
        return self.labels[target.label]

    def refresh(self) -> None:
        """Load the versions of the policy that are new, and then unload the others."""
        chosen, count = [], 0
        for version, path in sorted(version_folders(self.folder).items(), reverse=True):
            is_latest = count < self._latest
            if (is_latest or version in self._specific) and self._is_loaded(version, path):
                chosen.append(version)
                count += is_latest
        for version in [version for version in self._loaded if version not in chosen and chosen]:
            self._loaded = {key: model for key, model in self._loaded.items() if key != version}
            self._states[version] = VersionState(version, "END")

    def states(self) -> list[VersionState]:
        """Return the states of all versions that were loaded or tried."""
        return list(self._states.values())

    def _is_loaded(self, version: int, path: Path) -> bool:
        """Load a version, unless it is loaded or has failed without a change since then."""
        if version in self._loaded:
            return True
        contents = _contents(path)
        if self._failed.get(version) == contents:
            return False
        self._states[version] = VersionState(version, "LOADING")
        try:
            model = self._load(path, self.name, version)
        # A damaged folder may raise anything, and the server must continue.
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            self._failed[version] = contents
            self._states[version] = VersionState(version, "END", text)
            _LOG.warning("%s: version %d can't be loaded: %s", self.name, version, text)
            return False
        self._loaded = {**self._loaded, version: model}
        self._states[version] = VersionState(version, "AVAILABLE")
        _LOG.info("%s: serving version %d", self.name, version)
        return True


def _contents(folder: Path) -> _Contents:
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            about = path.stat()
        except FileNotFoundError:  # the version is being removed
            continue
        found.append((path.name, about.st_size, about.st_mtime_ns))
    return tuple(found)


class Watcher:
    """A thread that looks for new models and versions.

    Args:
        refresh: Looks for them once.
        interval: Seconds between two calls.
    """

    def __init__(self, refresh: Callable[[], None], interval: float = 1.0) -> None:
        self._refresh, self._interval = refresh, interval
        self._stopped = threading.Event()
        # A daemon thread, so that loading a large model doesn't delay the shutdown.
        self._thread = threading.Thread(target=self._run, name="versions", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; if it is loading a model, it stops later."""
        self._stopped.set()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        reported = ""
        while not self._stopped.wait(self._interval):
            try:
                self._refresh()
            except OSError as error:  # a folder can't be read, maybe only now
                if str(error) != reported:
                    reported = str(error)
                    _LOG.warning("Can't look for new versions: %s", error)
