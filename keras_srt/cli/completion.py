"""Scripts that teach a shell the commands, options and choices of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

SHELLS = ("bash", "zsh")


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion script of a command line, for a shell to read at its start.

    Args:
        parser: of the command line. Options that take a path complete file names.
        shell: one of `SHELLS`.

    Returns:
        The script.

    Example:
        >>> "complete -o" in script(argparse.ArgumentParser(prog="tool"), "bash")
        True
    """
    import shtab  # here, because every command imports this module

    for action in _actions(parser):
        if action.type is Path or action.dest in ("config", "images"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every option and argument, also of the commands and of commands of these."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
