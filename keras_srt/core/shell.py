"""How a command is shown that one may type again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path


def format_command(arguments: Sequence[str]) -> str:
    """The command line of a program, as one types it.

    Args:
        arguments: as `sys.argv` has them: the program's file, then what it was given.

    Returns:
        A line for a shell.

    Example:
        >>> format_command(["train.py", "--config", "my config.json"])
        "python train.py --config 'my config.json'"
        >>> format_command(["/venv/bin/keras-srt", "tune", "--resume"])
        'keras-srt tune --resume'
        >>> format_command(["/src/keras_srt/__main__.py", "info"])
        'python -m keras_srt info'
    """
    program = Path(arguments[0])
    if program.name == "__main__.py":
        typed = ["python", "-m", program.parent.name]
    elif program.suffix == ".py":
        typed = ["python", arguments[0]]
    else:
        typed = [program.name]
    return shlex.join([*typed, *arguments[1:]])
