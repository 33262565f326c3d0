"""`model.config`: the list of models that TF Serving reads at startup and while polling."""

from __future__ import annotations

from pathlib import Path

from keras_srt.core.errors import UserError
from keras_srt.core.files import write_text
from keras_srt.core.version_folders import is_version

CONFIG_FILE = "model.config"
# Mount point of the model folder in the container, see deploy/.
MOUNT = "/models"

_HEADER = """\
# Written by `keras-srt export`: every model in this folder, with paths inside the container.
# To use your own list, copy this file and pass the copy to TF Serving.
"""


def write_model_config(root: Path) -> Path:
    """Write `root/model.config` atomically, with every model in `root`.

    Args:
        root: Folder with one folder per model, each with its versions.

    Returns:
        The file.

    Raises:
        UserError: The file can't be written.
    """
    path = root / CONFIG_FILE
    try:
        # Repeat if another export published a model meanwhile: the last writer sees both models.
        while not path.is_file() or path.read_text(encoding="utf-8") != model_config(root):
            write_text(path, model_config(root))
    except (OSError, UserError) as error:
        raise UserError(f"{error}; the version itself is published") from error
    return path


def model_config(root: Path) -> str:
    """Make the text of `model.config`: a `ModelServerConfig` protobuf in text format.

    Args:
        root: Folder with one folder per model; folders without a version are left out.

    Returns:
        The text, with models sorted by name.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    versions = (path.parent for path in root.glob("*/*/saved_model.pb"))
    names = {version.parent.name for version in versions if is_version(version.name)}
    for name in sorted(names):
        config.model_config_list.config.add(
            name=name, base_path=f"{MOUNT}/{name}", model_platform="tensorflow"
        )
    return _HEADER + text_format.MessageToString(config, as_utf8=True)
