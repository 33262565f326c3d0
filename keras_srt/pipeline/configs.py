"""Load configs with all components of the package."""

from __future__ import annotations

from collections.abc import Iterable

from keras_srt.attacks import ATTACKS
from keras_srt.config import loader
from keras_srt.config.schema import Components, Config
from keras_srt.core.errors import UserError
from keras_srt.data import DATASETS
from keras_srt.models import MODELS
from keras_srt.neighborhoods import NEIGHBORHOODS
from keras_srt.objectives import OBJECTIVES
from keras_srt.pipeline.run_folder import RunFolder

COMPONENTS = Components(DATASETS, MODELS, NEIGHBORHOODS, OBJECTIVES, ATTACKS)


def load_config(name: str, variant: str | None = None, overrides: Iterable[str] = ()) -> Config:
    """Find and load a config.

    Args:
        name: The path of a JSON file, or the name of a file in `configs/`.
        variant: The variant to resolve, or None.
        overrides: Settings to replace, each `key.path=value`.

    Raises:
        InvalidSettings: The config has invalid settings.
        UserError: The file can't be found or read.
    """
    return loader.load(loader.find(name), COMPONENTS, variant, overrides)


def claim(folder: RunFolder, config: Config, resume: bool) -> None:
    """Make a folder that of a run, see `RunFolder.claim`."""
    folder.claim(config.to_json(), resume, lambda path: load_config(str(path)).to_json())


def load_run_config(folder: RunFolder) -> Config:
    """Load the config of an existing run.

    Raises:
        UserError: The folder holds no run.
    """
    if not folder.config.is_file():
        raise UserError(f"{folder.path}: is not a run (no config.json); give the folder of a run")
    return loader.load(folder.config, COMPONENTS)
