"""Model folders, of which the newest version is served; new versions are loaded while serving."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from keras_srt.core.version_folders import version_folders
from keras_srt.serving.engine.loaded_model import LoadedModel
from keras_srt.serving.http.protocol import VersionState

_LOG = logging.getLogger(__name__)
# Name, size and time of each file: if they change, loading a failed version is tried again.
_Contents = tuple[tuple[str, int, int], ...]


class ModelFolder:
    """`saved_models/<name>/`, of which the newest loadable version is served.

    If a version can't be loaded, the current one stays in use, and loading is tried again only
    after its files change. If all versions are removed, the current one stays in use, too.

    Args:
        folder: Folder with versions in subfolders named by whole numbers; others are ignored.
        load: Loads a model from (folder, name, version).

    Attributes:
        folder: As given.
        name: Name of the model, which is that of the folder.
        current: The served version, or None. Running requests keep their version when it changes.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[Path, str, int], LoadedModel] = LoadedModel,
    ) -> None:
        self.folder, self.name = folder, folder.resolve().name
        self.current: LoadedModel | None = None
        self._load = load
        self._failed: dict[int, _Contents] = {}
        self._states: dict[int, VersionState] = {}

    def refresh(self) -> None:
        """Load the newest version if it is not the current one."""
        for version, path in sorted(version_folders(self.folder).items(), reverse=True):
            if self.current is not None and version == self.current.version:
                return
            contents = _contents(path)
            if self._failed.get(version) != contents and self._try_version(version, path):
                return
            self._failed[version] = contents

    def states(self) -> list[VersionState]:
        """Return the states of all versions that were loaded or tried."""
        return list(self._states.values())

    def _try_version(self, version: int, path: Path) -> bool:
        """Load a version and make it the current one; on failure, keep the current one."""
        self._states[version] = VersionState(version, "LOADING")
        try:
            loaded = self._load(path, self.name, version)
        # A damaged folder may raise anything, and the server must continue.
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            self._states[version] = VersionState(version, "END", text)
            _LOG.warning("%s: version %d can't be loaded: %s", self.name, version, text)
            return False
        before, self.current = self.current, loaded
        self._states[version] = VersionState(version, "AVAILABLE")
        if before is not None:
            self._states[before.version] = VersionState(before.version, "END")
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


class FolderWatcher:
    """A thread that refreshes model folders.

    Args:
        folders: The folders.
        interval: Seconds between two refreshes.
    """

    def __init__(self, folders: list[ModelFolder], interval: float = 1.0) -> None:
        self._folders, self._interval = folders, interval
        self._stopped = threading.Event()
        # A daemon thread, so that loading a large model doesn't delay the shutdown.
        self._thread = threading.Thread(target=self._run, name="versions", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; if it is loading a model, it stops later."""
        self._stopped.set()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            for folder in self._folders:
                folder.refresh()
