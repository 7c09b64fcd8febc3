"""What the errors of psycopg and of the server mean to who uses the backend."""

from __future__ import annotations

from pollin_actors.backends.postgres.driver import is_of_driver
from pollin_actors.backends.postgres.functions import STALE, TWICE
from pollin_actors.errors import BackendUnavailable, PollinError

__all__ = [
    "NAME",
    "is_cancelled",
    "is_farewell",
    "is_isolated",
    "is_lock_timeout",
    "is_outdated",
    "is_rivalry",
    "survives",
    "unavailable",
]

NAME = "postgresql"
"""How errors call the backend."""

# Deadlocks and the like, or that somebody has made the server forget what was prepared: nothing is
# wrong, and another attempt succeeds.
_RIVALRY = {"40001", "40P01", "26000"}
_LOCK_TIMEOUT = "55P03"
# Most likely of a statement_timeout that somebody has set for us.
_CANCELLED = "57014"
_FAREWELLS = {"25P03", "57P05"}
# The others: the schema, a function or a table is not there.
_OUTDATED = {STALE, TWICE, "3F000", "42883", "42P01"}
# Classes of errors of one statement, which say nothing about the next one.
_OF_ONE = ("21", "22", "23", "42", "54", "P0", "XX")
# Classes of errors after which the connection is as good as before.
_HARMLESS = (*_OF_ONE, "3F", "40", "53", "55", _CANCELLED, STALE[:2])

_HINTS = {
    "08": "check that the server runs and can be reached, then try again",
    "25P03": "this process halted in the middle of a transaction: try again",
    "25": "the server takes no changes: connect to the primary, see target_session_attrs",
    "28": "check the user, the password and pg_hba.conf",
    "3D": "create the database, or check its name in the URL",
    "3F": "see that nobody removes the schema",
    "42": "grant the user its rights on the schema; see the cause of this error",
    "53": "free resources of the server, such as disk space, memory or connections",
    "55": "another node holds the endpoint for a long time: look into pg_stat_activity",
    _CANCELLED: "another node holds the endpoint for a long time; or see statement_timeout",
    "57": "the server is being shut down or started: try again",
}
_HINT = "check that the server runs and can be reached, then try again"
_UNKNOWN = "; the connection was lost before the server answered: it may have been stored"


def _state(error: BaseException) -> str:
    """The server's code of an error; empty if it is none of the server's."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else ""


def is_outdated(error: BaseException) -> bool:
    """Whether nothing was changed because what is remembered here is out of date, or because
    some of it is there already."""
    return _state(error) in _OUTDATED


def is_rivalry(error: BaseException) -> bool:
    """Whether something was in the way that is over, so that it can be tried again at once."""
    return _state(error) in _RIVALRY


def is_lock_timeout(error: BaseException) -> bool:
    """Whether another transaction has held an endpoint for too long."""
    return _state(error) == _LOCK_TIMEOUT


def is_cancelled(error: BaseException) -> bool:
    """Whether a statement has taken too long for the server: its own doing, or it has waited for
    another transaction."""
    return _state(error) == _CANCELLED


def is_farewell(error: BaseException) -> bool:
    """Whether the server has ended a session that said nothing for too long: what it was sent just
    then it has not read, and nothing was committed."""
    return _state(error) in _FAREWELLS


def is_isolated(error: BaseException) -> bool:
    """Whether the error may be about one message only, and others would succeed."""
    state = _state(error)
    if state:
        return state.startswith(_OF_ONE)
    if is_of_driver(error):
        # What psycopg itself refuses to send; a lost connection is an OperationalError.
        import psycopg

        return isinstance(error, psycopg.DataError | psycopg.ProgrammingError)
    return not isinstance(error, OSError | PollinError)


def survives(error: BaseException) -> bool:
    """Whether the connection can be used further; otherwise it is opened anew."""
    state = _state(error)
    return state.startswith(_HARMLESS) if state else is_isolated(error)


def unavailable(
    error: BaseException, password: str | None = None, *, unknown: bool = False
) -> BackendUnavailable:
    """What the caller is told.

    Arguments:
        error: what has happened; it becomes the cause.
        password: what must not be shown.
        unknown: whether it may have been stored all the same.
    """
    state = _state(error)
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    if state and primary:
        # What else the server says may hold a row, with a secret in it; whoever logs the cause
        # would show that.
        error.args = (primary,)
    reason = " ".join(str(error).split()) or type(error).__name__
    if not is_of_driver(error):
        reason = f"{type(error).__name__}: {reason}"
    if password:
        reason = reason.replace(password, "**********")
    hint = _HINTS.get(state) or _HINTS.get(state[:2], _HINT)
    result = BackendUnavailable(NAME, reason + (_UNKNOWN if unknown else ""), hint)
    result.__cause__ = error
    return result
