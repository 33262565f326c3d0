"""Installation. `constraints.txt` lists the exact versions that the test suite runs with."""

import os
from pathlib import Path

from setuptools import find_packages, setup

# TensorFlow Addons support TensorFlow up to 2.15, which needs Python 3.11 or older. Newer Pythons
# get TensorFlow 2.21; Python 3.11 gets it with `KERAS_SRT_TENSORFLOW=2.21 pip install -e .`.
_CURRENT_FROM = "3.11" if os.environ.get("KERAS_SRT_TENSORFLOW") == "2.21" else "3.12"
_REFERENCE, _CURRENT = (f'python_version {sign} "{_CURRENT_FROM}"' for sign in ("<", ">="))
_HERE = Path(__file__).parent

setup(
    name="keras-srt",
    version="0.1.0",
    description="Semi-supervised robust training of image classifiers in TensorFlow/Keras",
    long_description=(_HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause-Clear",
    python_requires=">=3.10",
    packages=[*find_packages(include=["keras_srt", "keras_srt.*"]), "keras_srt.configs"],
    # The configs lie at the top of the checkout, and inside the package once installed.
    package_dir={"keras_srt.configs": "configs"},
    package_data={
        "keras_srt": ["*.pyi", "py.typed"],
        "keras_srt.configs": ["*.json"],
        "keras_srt.reproduce": ["patent.json"],
        "keras_srt.serving": ["page/*"],
    },
    install_requires=[
        # The last versions that TensorFlow Addons support.
        f"tensorflow==2.15.*; {_REFERENCE}",
        f"tensorflow-addons==0.23.*; {_REFERENCE}",
        f"tensorflow-serving-api==2.15.*; {_REFERENCE}",
        f"grpcio-health-checking>=1.62.3,<1.63; {_REFERENCE}",  # newer ones need protobuf 5
        # TensorFlow 2.15 was built for NumPy 1 and protobuf 4.
        f"numpy>=1.26,<2; {_REFERENCE}",
        f"protobuf>=4.25,<5; {_REFERENCE}",
        # Newer versions need protobuf 5; `import tensorflow_datasets` then succeeds, but
        # `tfds.load` is missing.
        f"tensorflow-metadata>=1.16.1,<1.18; {_REFERENCE}",
        # TFDS imports it on Python 3.11 without requiring it.
        f"importlib_resources; {_REFERENCE}",
        # Newer versions need Python 3.11, which pip 23 finds out after minutes of backtracking.
        'etils<1.14; python_version < "3.11"',
        f"tensorflow==2.21.*; {_CURRENT}",
        f"keras>=3.15,<4; {_CURRENT}",
        f"numpy>=2; {_CURRENT}",
        f"tensorboard>=2.20; {_CURRENT}",
        f"tensorflow-serving-api>=2.19; {_CURRENT}",
        f"grpcio-health-checking>=1.70; {_CURRENT}",
        "tensorflow-datasets>=4.9.10,<4.10",
        "keras-tuner>=1.4.8,<2",
        "grpcio>=1.60",
        "lazy_loader>=0.4",
        "matplotlib>=3.8",
        "orjson>=3.10",
        "pillow>=10",
        "prometheus-client>=0.20",
        "pydantic>=2.7,<3",
        "requests>=2.31",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "shtab>=1.7",
        "starlette>=1.0",
        "tqdm>=4.66",
        "typing_extensions>=4.8",
        "urllib3>=2.6",
        "uvicorn>=0.30",
    ],
    extras_require={
        "cuda": [
            f"tensorflow[and-cuda]==2.15.*; {_REFERENCE}",
            f"tensorflow[and-cuda]==2.21.*; {_CURRENT}",
        ],
        "test": [
            "ai-edge-litert>=2.0",
            "hypothesis>=6.100",
            'import-linter>=2.1; python_version >= "3.11"',
            "mypy>=1.11",
            "pytest>=8",
            "pytest-cov>=5",
            "pytest-xdist>=3.6",
            "pyyaml>=6",
            "ruff>=0.6",
            f"tflite-runtime>=2.14; {_REFERENCE}",
        ],
        # HEIC images: keras_srt/core/images.py
        "heic": ["pillow-heif>=0.18"],
        # Hugging Face datasets: keras_srt/data/batch_sources.py
        # Newer versions need pyarrow for NumPy 2.
        "huggingface": [
            f"datasets>=3,<4; {_REFERENCE}",
            f"pyarrow<20; {_REFERENCE}",
            f"datasets>=3; {_CURRENT}",
        ],
        # The site, on Python 3.11 and newer: mkdocs build
        "docs": [
            f'{package} ; python_version >= "3.11"'
            for package in ("mkdocs>=1.6,<2", "mkdocs-material>=9.6", "mkdocstrings[python]>=0.29")
        ],
        # The page in headless Chromium: pytest tests/nightly/test_page.py
        "browser": ["selenium>=4.20"],
        # Attacks of other libraries: pytest tests/nightly/crosscheck. Exact, because its tests
        # show faults of these versions. The CPU build of Torch is enough.
        "crosscheck": [
            "adversarial-robustness-toolbox==1.20.1",
            "eagerpy==0.30.0",
            "foolbox==3.3.4",
            "pyautoattack==0.2.0",
            "torch==2.13.0",
        ],
    },
    entry_points={"console_scripts": ["keras-srt = keras_srt.cli.main:main"]},
)
