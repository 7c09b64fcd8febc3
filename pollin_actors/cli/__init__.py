"""The ``pollin`` command."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``pollin`` command.

    Args:
        argv: the arguments without the command's name; by default those of the process.

    Returns:
        The exit code: 0 for success, else one of those that ``pollin --help`` lists; what has
        happened is said in one line on stderr.
    """
    try:
        # Here, where an interrupt is an interrupt already: importing it takes a while.
        from pollin_actors.cli.dispatch import dispatch

        return dispatch(argv)
    except KeyboardInterrupt:
        return 130  # Exit.INTERRUPTED, which may not be imported yet
