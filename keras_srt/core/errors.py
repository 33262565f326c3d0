"""Exceptions that the command line translates to messages and exit codes."""

from __future__ import annotations

from collections.abc import Iterable


class InvalidSettings(ValueError):
    """Invalid settings; lists every problem.

    Attributes:
        problems: One line per problem: `path: got …; allowed: …`.

    Example:
        >>> str(InvalidSettings(["epsilon: got -1; allowed: a number from 0 to 1"]))
        'epsilon: got -1; allowed: a number from 0 to 1'
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))

    def with_prefix(self, path: str) -> InvalidSettings:
        """Return the problems with `path` prepended to their paths."""
        return InvalidSettings(
            # A problem of the whole value has no path.
            f"{path}: {problem}" if problem.startswith("got ") else f"{path}.{problem}"
            for problem in self.problems
        )


def invalid_setting(name: str, got: str, allowed: str) -> InvalidSettings:
    """Return the error of one setting or argument.

    Example:
        >>> str(invalid_setting("data", "no images", "at least one"))
        'data: got no images; allowed: at least one'
    """
    return InvalidSettings([f"{name}: got {got}; allowed: {allowed}"])


class UserError(Exception):
    """A problem that the user can fix, such as a missing file; one line that says how.

    The command line prints the line and exits with code 2, as for `InvalidSettings`.
    """


class NotFinite(UserError):
    """A loss or a weight became NaN or infinite during training."""


class Interrupted(Exception):
    """A run was interrupted, by Ctrl-C for example; its state is saved.

    Args:
        step: The step of the saved state; None if the run has no steps.
        all_workers: Whether all workers have to be started again.
    """

    def __init__(self, step: int | None = None, all_workers: bool = False) -> None:
        self.step, self.all_workers = step, all_workers
        state = "finished parts are" if step is None else f"the state after step {step} is"
        hint = "; start all workers again" if all_workers else ""
        super().__init__(f"interrupted: {state} saved{hint}")
