"""The command line: parse the arguments, run a command, map exceptions to exit codes."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import platform
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata
from types import ModuleType
from typing import Any

from keras_srt.cli import (
    compare,
    completion,
    data_check,
    evaluate,
    export,
    info,
    init,
    predict,
    reproduce,
    serve,
    train,
    tune,
)
from keras_srt.cli.output import discard, lossy_output, prepare_streams, show_error, shown_logs
from keras_srt.core.errors import Interrupted, InvalidSettings, UserError

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
EXIT_PIPE = 141  # the exit code in a shell of a program that SIGPIPE ended

# Each module has HELP, add_options(parser) and run(options); commands that can be resumed also
# have resume_command(options).
COMMANDS: dict[str, ModuleType] = {
    "init": init,
    "data check": data_check,
    "train": train,
    "info": info,
    "evaluate": evaluate,
    "compare": compare,
    "tune": tune,
    "export": export,
    "predict": predict,
    "serve": serve,
    "reproduce": reproduce,
    "completion": completion,
}
_GROUPS = {"data": "Work with the images of a config."}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The command-line arguments; by default those of the process.

    Returns:
        The exit code: 0 done, 1 done except for some images, 2 bad input (one line on stderr
        for each problem), 130 interrupted, 141 the output pipe was closed.
    """
    prepare_streams()
    if arguments is None:
        _tolerate_warnings()
    # Python's last garbage collections would take seconds with the objects of TensorFlow.
    atexit.register(gc.freeze)
    options = make_parser().parse_args(arguments)
    saves_work = hasattr(options.module, "resume_command")
    try:
        quiet = getattr(options, "quiet", False)
        with lossy_output() if saves_work else contextlib.nullcontext(), shown_logs(quiet):
            code = options.module.run(options)
            sys.stdout.flush()
        return EXIT_DONE if code is None else code
    except (InvalidSettings, UserError) as error:
        show_error(f"error: {error}".replace("\n", "\nerror: "))
        return EXIT_BAD_INPUT
    except Interrupted as error:
        command = options.module.resume_command(options)
        show_error(f"{error}; continue with\n  {command}")
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        show_error("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # As in `keras-srt predict … | head`; Python would report it again at its end.
        discard(sys.stdout)
        return EXIT_PIPE


def _tolerate_warnings() -> None:
    """With `python -W error`, let only warnings of this package end a command.

    Keras and TensorFlow warn of deprecations in their own code.
    """
    if any(action == "error" for action, *_ in warnings.filters):
        warnings.simplefilter("default")
        warnings.filterwarnings("error", module=r"keras_srt")


class _ShowVersions(argparse.Action):
    """Print the versions of this package, of TensorFlow and of Python, and exit."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        versions = {"Python": platform.python_version()}
        for name in ("keras-srt", "tensorflow"):
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                versions[name] = "not installed"
        parser.exit(
            message="keras-srt {keras-srt} (TensorFlow {tensorflow}, Python {Python})\n".format(
                **versions
            )
        )


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands, which sets `module` to the command's module."""
    parser = argparse.ArgumentParser(
        prog="keras-srt", description="Train image classifiers that are adversarially robust."
    )
    # Older versions of argparse align the help of commands with that of the options alone; `-V`
    # makes the column wide enough for the longest command.
    parser.add_argument("-V", "--version", action=_ShowVersions, help="show versions and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    groups: dict[str, Any] = {}
    for name, module in COMMANDS.items():
        group, _, action = name.rpartition(" ")
        if group and group not in groups:
            added = commands.add_parser(group, help=_GROUPS[group], description=_GROUPS[group])
            groups[group] = added.add_subparsers(required=True, metavar="ACTION")
        parent = groups[group] if group else commands
        command = parent.add_parser(action, help=module.HELP, description=module.HELP)
        command.set_defaults(module=module)
        module.add_options(command)
    return parser
