"""Errors of the command line, and the exit codes that they stand for."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Any

from pollin_actors.errors import (
    BackendUnavailable,
    CallbackNotFound,
    EndpointExists,
    EndpointNotFound,
    NotRunning,
    PollinError,
    UnknownPhase,
)

__all__ = [
    "EXIT_CODES",
    "CommandError",
    "Exit",
    "Gone",
    "NotThere",
    "Unavailable",
    "UserError",
    "in_options",
    "of_error",
    "of_problem",
]


class Exit(IntEnum):
    """What the command's exit code says."""

    OK = 0
    NOT_THERE = 1
    USAGE = 2
    UNAVAILABLE = 3
    BUG = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


EXIT_CODES = {
    Exit.OK: "it is done",
    Exit.NOT_THERE: "what was asked for is not there, was refused, or a check has failed",
    Exit.USAGE: "an option, a value or the token has to be changed, or something installed",
    Exit.UNAVAILABLE: "the backend or the server is not available",
    Exit.BUG: "an error of the command itself: please report it",
    Exit.INTERRUPTED: "it was interrupted, by Ctrl-C",
    Exit.BROKEN_PIPE: "nobody reads what it writes any more",
    Exit.TERMINATED: "it was told to end, by SIGTERM",
}


class CommandError(Exception):
    """Something that ends the command; the text says what and what to do, in one line."""

    code = Exit.USAGE


class UserError(CommandError):
    """Something that the user of the command has to change."""


class NotThere(CommandError):
    """What was asked for is not there, or was refused."""

    code = Exit.NOT_THERE


class Gone(NotThere):
    """A callback that is not there any more, or not where it was: somebody else was quicker."""


class Unavailable(CommandError):
    """The backend or the server could not do it."""

    code = Exit.UNAVAILABLE


def of_error(error: Exception) -> CommandError:
    """The error of the command for one of the library's."""
    if isinstance(error, CommandError):
        return error
    text = in_options("; ".join([str(error), *getattr(error, "__notes__", ())]))
    if isinstance(error, CallbackNotFound | EndpointExists | EndpointNotFound | UnknownPhase):
        return NotThere(text)
    if isinstance(error, PollinError) and not isinstance(error, BackendUnavailable | NotRunning):
        return UserError(text)
    return Unavailable(text)


def of_problem(problem: dict[str, Any], where: str) -> CommandError:
    """The error of the command for what the admin API answers, or would.

    Arguments:
        problem: its fields.
        where: what was asked, for errors that do not say it.
    """
    status, detail = problem.get("status"), in_options(str(problem.get("detail", "")))
    name = str(problem.get("type", "")).rpartition(":")[2]
    if status == 401:
        return UserError(f"{where} does not accept the token: give the right one as POLLIN_TOKEN")
    if name == "not-found":
        return UserError(f"{where} is no admin API: give the URL that it is mounted at")
    if name == "handler-not-found":
        names = problem.get("known")
        known = ", ".join(map(repr, names)) if isinstance(names, list) and names else "none"
        return NotThere(f"there is no such handler: expected one of {known}")
    if name in ("callback-not-found", "phase-conflict"):
        return Gone(detail)
    if name in ("full", "unknown-phase") or status in (403, 404, 409):
        return NotThere(detail)
    if isinstance(status, int) and status < 500 and status != 408:
        return UserError(detail)
    return Unavailable(detail)


# What the library calls by its own names; what is given without an option has none.
_FIELD = re.compile(r"^(?:body|query|Endpoint|Intake|Callback)\.([a-z_.]+)")
_SETTING = re.compile(r"^Settings\.([a-z_]+)")
_OPTIONS = {
    "key": "KEY",
    "endpoint_id": "ENDPOINT",
    "intake": "--intake",
    "intake.scheme": "--intake",
    "scheme": "--intake",
    "content_types": "--content-type",
    "consumes": "--phases",
    "headers": "--header",
    "keys": "KEY",
    "name": "--name",
}


def in_options(text: str) -> str:
    """An error of the library in the words of the command."""
    text = _SETTING.sub(lambda found: f"POLLIN_{found[1].upper()}", text)
    return _FIELD.sub(lambda found: _option(found[1]), text)


def _option(field: str) -> str:
    named = _OPTIONS.get(field) or _OPTIONS.get(field.partition(".")[2])
    return named or f"--{field.removeprefix('intake.').replace('_', '-')}"
