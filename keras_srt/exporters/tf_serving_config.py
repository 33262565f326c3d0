"""`model.config`: the list of models that TF Serving reads at its start and while it polls."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from keras_srt.core.errors import UserError

CONFIG_FILE = "model.config"
# Where the folder of models is mounted in the container, see deploy/.
MOUNT = "/models"

_HEADER = """\
# Written anew by each `keras-srt export`: every model in this folder, as the container sees it.
# For a list of your own, copy this file and give TF Serving the copy.
"""


def write_model_config(root: Path) -> Path:
    """Writes `root/model.config` with every model that lies in `root`.

    Args:
        root: holds a folder for each model, which holds its versions.

    Returns:
        The file; it changes from one whole state to the next.

    Raises:
        UserError: it can't be written.
    """
    path = root / CONFIG_FILE
    try:
        # Again, if another export published a model meanwhile: the one that writes last has
        # then seen both.
        while not path.is_file() or path.read_text(encoding="utf-8") != model_config(root):
            _replace(path, model_config(root))
    except OSError as error:
        raise UserError(
            f"{path}: can't be written ({error.strerror}); the version itself is published"
        ) from error
    return path


def model_config(root: Path) -> str:
    """The text of `model.config`: a `ModelServerConfig` as TF Serving reads it.

    Args:
        root: holds a folder for each model; one without a version is no model.

    Returns:
        A text protobuf, with the models in the order of their names.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    found = (path.parent for path in root.glob("*/*/saved_model.pb"))
    names = {version.parent.name for version in found if version.name.isdecimal()}
    for name in sorted(names):
        config.model_config_list.config.add(
            name=name, base_path=f"{MOUNT}/{name}", model_platform="tensorflow"
        )
    return _HEADER + text_format.MessageToString(config, as_utf8=True)


def _replace(path: Path, text: str) -> None:
    handle, draft = tempfile.mkstemp(prefix=".draft-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)  # mkstemp makes it private; a server runs as somebody else
        os.replace(draft, path)
    finally:
        Path(draft).unlink(missing_ok=True)
