"""Shell command lines as text."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path


def format_command(arguments: Sequence[str]) -> str:
    """Format `sys.argv` as a shell command.

    Args:
        arguments: The path of the program, then its arguments.

    Returns:
        A line for a POSIX shell.

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
        command = ["python", "-m", program.parent.name]
    elif program.suffix == ".py":
        command = ["python", arguments[0]]
    else:
        command = [program.name]
    return shlex.join([*command, *arguments[1:]])
