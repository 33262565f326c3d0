"""`pip install "./device[litert]"`: recognition on a device, without TensorFlow.

A second distribution of the same sources: what `python -m keras_srt.device` needs, and no
more. Not beside `keras-srt` in one environment, which has all of it already.
"""

import ast
from pathlib import Path

from setuptools import setup

_ROOT = Path(__file__).resolve().parents[1]


def _version() -> str:
    """The version in the setup.py above."""
    tree = ast.parse((_ROOT / "setup.py").read_text(encoding="utf-8"))
    arguments = [node for node in ast.walk(tree) if isinstance(node, ast.keyword)]
    return next(ast.literal_eval(node.value) for node in arguments if node.arg == "version")


setup(
    name="keras-srt-device",
    version=_version(),
    description="Recognition with a TFLite classifier of keras-srt, without TensorFlow",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.10",
    packages=["keras_srt", "keras_srt.core", "keras_srt.device"],
    package_dir={"keras_srt": "../keras_srt"},
    package_data={"keras_srt": ["*.pyi", "py.typed"]},
    install_requires=["lazy_loader>=0.4", "numpy>=1.23", "pillow>=10"],
    extras_require={
        "heic": ["pillow-heif>=0.18"],
        "litert": ["ai-edge-litert>=1.0"],
        "tflite-runtime": ["tflite-runtime>=2.14", "numpy<2"],
    },
)
