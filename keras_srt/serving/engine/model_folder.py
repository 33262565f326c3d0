"""The versions of a model folder: the newest one is served, and new ones are taken as they come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from keras_srt.serving.engine.loaded_model import LoadedModel
from keras_srt.serving.http.protocol import VersionState

# What is in a version's folder: if it changes, a version that failed is worth another try.
_Contents = tuple[tuple[str, int, int], ...]


class ModelFolder:
    """`saved_models/<name>/`, of which the newest version that loads is served.

    A version that can't be loaded is left alone until its files change, and the one before
    goes on. If all versions are taken away, the last one goes on too.

    Args:
        folder: holds versions in folders named by whole numbers; others are ignored.
        tell: called with a line for the operator.
        load: makes a model of (folder, name, version).

    Attributes:
        name: of the model, that of the folder.
        current: the version that is served, or None. A request keeps the one that it began
            with, so that changing it disturbs nobody.
    """

    def __init__(
        self,
        folder: Path,
        tell: Callable[[str], None],
        load: Callable[[Path, str, int], LoadedModel] = LoadedModel,
    ) -> None:
        self.folder, self.name = folder, folder.resolve().name
        self.current: LoadedModel | None = None
        self._tell, self._load = tell, load
        self._failed: dict[int, _Contents] = {}
        self._states: dict[int, VersionState] = {}

    def refresh(self) -> None:
        """Looks at the folder and loads the newest version if it isn't the one served."""
        for version in sorted(find_versions(self.folder), reverse=True):
            if self.current is not None and version == self.current.version:
                return
            contents = _contents(self.folder / str(version))
            if self._failed.get(version) != contents and self._take(version):
                return
            self._failed[version] = contents

    def states(self) -> list[VersionState]:
        """All versions that were loaded or tried."""
        return list(self._states.values())

    def _take(self, version: int) -> bool:
        """Loads a version and serves it; on failure nothing changes."""
        self._states[version] = VersionState(version, "LOADING")
        try:
            loaded = self._load(self.folder / str(version), self.name, version)
        # A folder can be broken in any way, and the server has to outlive it.
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            self._states[version] = VersionState(version, "END", text)
            self._tell(f"{self.name}: version {version} can't be loaded: {text}")
            return False
        before, self.current = self.current, loaded
        self._states[version] = VersionState(version, "AVAILABLE")
        if before is not None:
            self._states[before.version] = VersionState(before.version, "END")
        self._tell(f"{self.name}: version {version} is served")
        return True


def find_versions(folder: Path) -> list[int]:
    """The versions in a model's folder.

    Args:
        folder: may be absent.

    Returns:
        The numbers; drafts and everything else that isn't a folder named by one are left out.

    Example:
        >>> find_versions(Path("no-such-folder"))
        []
    """
    if not folder.is_dir():
        return []
    return [
        int(path.name)
        for path in folder.iterdir()
        if path.name.isascii() and path.name.isdecimal() and path.is_dir()
    ]


def _contents(folder: Path) -> _Contents:
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            about = path.stat()
        except FileNotFoundError:  # is being removed at this moment
            continue
        found.append((path.name, about.st_size, about.st_mtime_ns))
    return tuple(found)


class Watch:
    """A thread that refreshes model folders.

    Args:
        folders: to refresh, one after another.
        interval: seconds between two looks.
    """

    def __init__(self, folders: list[ModelFolder], interval: float = 1.0) -> None:
        self._folders, self._interval = folders, interval
        self._stopped = threading.Event()
        # A daemon, because a large model that is just loading shouldn't hold up the end.
        self._thread = threading.Thread(target=self._run, name="versions", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, or lets it end after what it is loading."""
        self._stopped.set()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            for folder in self._folders:
                folder.refresh()
