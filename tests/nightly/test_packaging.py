"""Installation: versions that import together, a quiet start, other packages beside this one."""

import ast
import json
import runpy
import sys
from unittest import mock

import pytest
from helpers import ROOT, python
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name


def requirements(python_version="3.11", tensorflow=""):
    """name -> version specifiers of setup.py's install_requires on a version of Python."""
    found = {}
    wish = mock.patch.dict("os.environ", KERAS_SRT_TENSORFLOW=tensorflow)
    with wish, mock.patch("setuptools.setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    for line in setup.call_args.kwargs["install_requires"]:
        one = Requirement(line)
        if one.marker is None or one.marker.evaluate({"python_version": python_version}):
            specifiers = found.setdefault(canonicalize_name(one.name), set())
            specifiers |= {str(specifier) for specifier in one.specifier}
    return found


# Python, and KERAS_SRT_TENSORFLOW.
CURRENT = [("3.11", "2.21"), ("3.12", ""), ("3.13", ""), ("3.13", "2.21")]


@pytest.mark.parametrize(("python_version", "tensorflow"), [("3.10", ""), ("3.11", ""), *CURRENT])
def test_requirements_are_bounds_not_pins(python_version, tensorflow):
    required = requirements(python_version, tensorflow)
    assert 20 < len(required) < 40
    for name, specifiers in required.items():
        exact = [one for one in specifiers if one.startswith("==") and not one.endswith(".*")]
        assert not exact, name


@pytest.mark.parametrize("python_version", ["3.10", "3.11", "3.12", "3.13"])
def test_the_tested_versions_meet_the_requirements(python_version):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    tested = {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate({"python_version": python_version})
    }
    for name, specifiers in requirements(python_version).items():
        assert SpecifierSet(",".join(specifiers)).contains(tested[name]), name


@pytest.mark.parametrize(
    ("name", "specifiers"),
    [
        ("tensorflow", {"==2.15.*"}),
        ("tensorflow-addons", {"==0.23.*"}),
        ("tensorflow-metadata", {">=1.16.1", "<1.18"}),
        ("numpy", {"<2"}),
        ("protobuf", {">=4.25", "<5"}),
        ("importlib-resources", set()),
    ],
)
def test_bounds_of_versions_that_import_together(name, specifiers):
    assert specifiers <= requirements()[name]


@pytest.mark.parametrize(("python_version", "tensorflow"), CURRENT)
def test_from_python_3_12_on_there_is_a_newer_tensorflow_with_keras_3(python_version, tensorflow):
    required = requirements(python_version, tensorflow)
    assert "==2.21.*" in required["tensorflow"]
    assert {">=3.15", "<4"} <= required["keras"]
    assert "tf-keras" not in required
    assert "tensorflow-addons" not in required


def test_every_package_that_is_imported_is_required():
    known = {
        "PIL": "pillow",
        "google": "protobuf",
        "grpc": "grpcio",
        "sklearn": "scikit-learn",
        "tensorflow_serving": "tensorflow-serving-api",
    }
    required = requirements()
    for path in (ROOT / "keras_srt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in names:
                root = name.split(".")[0]
                package = known.get(root) or root.replace("_", "-")
                standard = root in sys.stdlib_module_names
                # keras comes with TensorFlow 2.15, and pydantic_core with pydantic.
                comes_along = root in ("keras", "keras_srt", "pydantic_core")
                assert standard or comes_along or package in required, f"{path}: {name}"


def test_all_dependencies_import_together_and_quietly():
    code = """
from keras_srt.core.tensorflow import keras, tf
from keras_srt.neighborhoods.geometry import rotate_and_translate
images = rotate_and_translate(tf.ones([1, 4, 4, 1]), tf.zeros([1, 3]))
import tensorflow_datasets as tfds, keras_tuner, matplotlib, sklearn, scipy, PIL, tqdm, pydantic
import keras_srt
for name in keras_srt.__all__:
    getattr(keras_srt, name)
print(callable(tfds.load), float(tf.reduce_sum(images)), tf.version.VERSION)
"""
    process = python("-c", code)
    assert process.returncode == 0, process.stderr
    callable_load, total, version = process.stdout.split()
    assert (callable_load, total) == ("True", "16.0")
    here = "{}.{}".format(*sys.version_info)
    minor = version.rpartition(".")[0]
    assert {f"=={minor}.*"} in [requirements(here, wish)["tensorflow"] for wish in ("", "2.21")]
    for noise in ("TFA", "Addons", "cuDNN", "oneDNN", "TensorRT", "rebuild TensorFlow", "Warning"):
        assert noise not in process.stderr, process.stderr


def test_torch_pandas_jupyter_and_mlflow_install_beside_the_package(tmp_path):
    report = tmp_path / "report.json"
    command = ["-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"]
    others = ["torch", "pandas", "jupyter", "mlflow"]
    process = python(*command, "--report", report, ROOT, *others, timeout=900)
    assert process.returncode == 0, process.stderr
    installed = json.loads(report.read_text())["install"]
    names = {canonicalize_name(package["metadata"]["name"]) for package in installed}
    assert {"keras-srt", "tensorflow", *others} <= names


def test_tensorflow_interpreter_is_quiet():
    code = "from keras_srt.device.classify import load_interpreter; load_interpreter('tensorflow')"
    process = python("-c", code)
    assert (process.returncode, process.stderr) == (0, "")
