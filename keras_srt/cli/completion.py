"""`keras-srt completion`: print a script that completes commands and options in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

HELP = "Print a script that completes commands, options and files in a shell."
SHELLS = ("bash", "zsh")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("shell", choices=SHELLS, help="of the script")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from keras_srt.cli.main import make_parser

    print(script(make_parser(), options.shell))


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Make the completion script of a command line.

    Args:
        parser: The parser; options of type `Path` complete file names.
        shell: One of `SHELLS`.

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
    """Yield every option and argument, also of subcommands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
