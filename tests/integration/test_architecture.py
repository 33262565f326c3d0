"""The package's own rules: which way imports point, what its code never does, what is public."""

import ast
import importlib
import inspect
import typing

import pytest
from helpers import ROOT, python

import keras_srt

PACKAGE = ROOT / "keras_srt"
FILES = sorted(PACKAGE.rglob("*.py"))


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports_in(tree, package):
    """Modules of keras_srt that a file imports at any depth of its code, dotted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], base]).strip(".")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def every_file(test):
    return pytest.mark.parametrize(
        "path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES]
    )(test)


@every_file
def test_what_the_code_never_does(path):
    for node in ast.walk(tree_of(path)):
        where = f"{path.name}:{getattr(node, 'lineno', 0)}"
        assert not isinstance(node, ast.Assert), f"{where}: `python -O` takes an assert away"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{where}: a bare except hides Ctrl-C"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "compile", "__import__"), where
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            roots = {name.split(".")[0] for name in names}
            assert not roots & {"pickle", "dill", "joblib", "marshal", "shelve"}, where
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            assert not text.endswith("keras.src"), f"{where}: not public, and gone in Keras 3"
            assert "python.keras" not in text, where
            assert not text.endswith(("compiled_loss", "optimizer.minimize")), where


@every_file
def test_private_keras_is_not_imported_and_tfa_by_geometry_alone(path):
    package = ".".join(("keras_srt", *path.relative_to(PACKAGE).parts[:-1]))
    names = set(imports_in(tree_of(path), package))
    assert not [name for name in names if name.startswith(("keras.src", "tensorflow.python"))]
    addons = [name for name in names if name.startswith("tensorflow_addons")]
    assert bool(addons) == (path.relative_to(PACKAGE).as_posix() == "neighborhoods/geometry.py")


@every_file
def test_everything_public_is_described(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree), path
    missing = []
    for scope in [tree, *(n for n in tree.body if isinstance(n, ast.ClassDef))]:
        if isinstance(scope, ast.ClassDef) and scope.name.startswith("_"):
            continue
        for node in scope.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith(
                "_"
            )
            if public and not ast.get_docstring(node):
                missing.append(node.name)
    assert not missing


@pytest.mark.parametrize("name", keras_srt.__all__)
def test_every_public_name_resolves(name):
    assert getattr(keras_srt, name) is not None
    assert name in dir(keras_srt)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no_such_name"):
        keras_srt.no_such_name  # noqa: B018


@pytest.mark.parametrize("package", ["attacks", "data", "models", "neighborhoods", "objectives"])
def test_the_names_of_a_package_resolve_and_are_its_own(package):
    module = importlib.import_module(f"keras_srt.{package}")
    for name in module.__all__:
        value = getattr(module, name)
        # Python 3.10 takes an alias of a type for a class.
        own = inspect.isclass(value) and typing.get_origin(value) is None
        if own or inspect.isfunction(value):
            assert value.__module__.startswith((f"keras_srt.{package}", "keras_srt.core.registry"))


def test_import_and_help_are_quick_and_without_tensorflow():
    code = (
        "import sys, keras_srt; from keras_srt.cli import main as cli\n"
        "from keras_srt import ATTACKS, NEIGHBORHOODS, OBJECTIVES\n"
        "try:\n    cli.main(['train', '--help'])\nexcept SystemExit as end:\n    code = end.code\n"
        "print(code, sorted({'tensorflow', 'keras', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    process = python("-c", code)
    assert process.stdout.strip().endswith("0 []"), process.stdout + process.stderr
    assert process.stderr == ""
