"""Exceptions that the command line turns into messages and exit codes."""

from __future__ import annotations

from collections.abc import Iterable


class InvalidSettings(ValueError):
    """Settings that can't be used, with every problem found, one line each.

    Attributes:
        problems: the lines, each `path: got …; allowed: …`.

    Example:
        >>> str(InvalidSettings(["epsilon: got -1; allowed: a number from 0 to 1"]))
        'epsilon: got -1; allowed: a number from 0 to 1'
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))

    def with_prefix(self, path: str) -> InvalidSettings:
        """The same problems, with `path` in front of each."""
        return InvalidSettings(
            # A problem of the value as a whole has no path of its own.
            f"{path}: {problem}" if problem.startswith("got ") else f"{path}.{problem}"
            for problem in self.problems
        )


class UserError(Exception):
    """A fault of the surroundings (a file, a folder, the network) with a way to fix it.

    The command line prints its one line and exits with 2, as for `InvalidSettings`.
    """


class NotFinite(UserError):
    """A loss or a weight became NaN or infinite."""


class Interrupted(Exception):
    """Ctrl-C during training; the state is saved, and the text says how to go on."""
