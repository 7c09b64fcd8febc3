"""URLs and settings: what of them is ours, and what is libpq's."""

from __future__ import annotations

import re
from math import isfinite
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from pollin_actors.backends.postgres.driver import load_driver
from pollin_actors.errors import InvalidValue

__all__ = ["Options", "read_options", "read_url"]

_URL = "postgresql://user:password@host:port/database?option=value"
_HINT = "percent-encode what is not a letter or digit in user and password"
_SCHEMES = ("postgresql://", "postgres://")
# Plain, so that it needs no quotes wherever somebody types it, and leaves room for the prefix
# of a channel.
_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,49}", re.ASCII)
_COMMITS = ("on", "off", "local", "remote_write", "remote_apply")
_LONGEST_S = 86_400.0


class Options(NamedTuple):
    """What is not libpq's."""

    schema: str
    synchronous_commit: str
    lock_timeout: float
    prepare: bool


def read_options(
    schema: object, synchronous_commit: object, lock_timeout: object, prepare: object
) -> Options:
    """Check the settings.

    Raises:
        InvalidValue: one of them has a value that it cannot have.
    """
    if not isinstance(schema, str) or not _SCHEMA.fullmatch(schema):
        expected = "1 to 50 of a-z, 0-9 and _, not beginning with a digit or pg_"
        raise InvalidValue("schema", expected, repr(schema)[:80])
    if synchronous_commit not in _COMMITS:
        got = repr(synchronous_commit)[:80]
        raise InvalidValue("synchronous_commit", f"one of {', '.join(_COMMITS)}", got)
    number = isinstance(lock_timeout, int | float) and not isinstance(lock_timeout, bool)
    if not number or not isfinite(lock_timeout) or not 0 < lock_timeout <= _LONGEST_S:  # type: ignore[arg-type, operator]  # it is a number
        expected = f"seconds, more than 0 and at most {_LONGEST_S:.0f}"
        raise InvalidValue("lock_timeout", expected, repr(lock_timeout)[:80])
    if not isinstance(prepare, bool):
        raise InvalidValue("prepare", "a bool", repr(prepare)[:80])
    return Options(schema, str(synchronous_commit), float(lock_timeout), prepare)  # type: ignore[arg-type]  # it is a number


def read_url(url: object, given: Options) -> tuple[Any, ...]:
    """The parameters of libpq in a URL, and the options, those in the URL before those given.

    Raises:
        InvalidValue: it is another kind of URL, or has unknown options; its text shows neither
            the user's password nor anything that may be one.
    """
    if not isinstance(url, str) or not url.lower().startswith(_SCHEMES):
        got = "another" if isinstance(url, str) else f"a {type(url).__name__}"
        raise InvalidValue("backend", f"a URL such as {_URL}", got)
    address, mark, query = url.partition("?")
    scheme, _, rest = address.partition("://")
    ours: dict[str, str] = {}
    theirs: list[str] = []
    known = _parameters()
    for item in query.split("&") if mark else ():
        for name, value in parse_qsl(item, keep_blank_values=True):
            if name in Options._fields:
                ours[name] = value
            elif name in known:
                theirs.append(item)
            else:
                if "@" in query:
                    # It may be the rest of a password: there is another @ where the host begins.
                    raise InvalidValue("backend", _URL, "what libpq does not understand", _HINT)
                expected = f"options of libpq, or {', '.join(Options._fields)}"
                raise InvalidValue("backend", expected, repr(name)[:80])
    text = f"{scheme.lower()}://{rest}" + (f"?{'&'.join(theirs)}" if theirs else "")
    driver = load_driver()
    from psycopg.conninfo import conninfo_to_dict

    try:
        found = conninfo_to_dict(text)
    except driver.Error:
        found = {"host": "@"}  # its message quotes parts of the URL, and the password may be one
    parameters = {name: str(value) for name, value in found.items()}
    # A password with such a character, not encoded, would be half in the host or in the port, and
    # in errors then.
    ports = parameters.get("port", "").split(",")
    if "@" in parameters.get("host", "") or not all(port.isdecimal() for port in ports if port):
        raise InvalidValue("backend", _URL, "what libpq does not understand", _HINT) from None
    return (parameters, *_read_texts(given, ours))


def _read_texts(given: Options, ours: dict[str, str]) -> Options:
    values: dict[str, Any] = {**given._asdict(), **ours}
    if "lock_timeout" in ours:
        try:
            values["lock_timeout"] = float(ours["lock_timeout"])
        except ValueError:
            got = repr(ours["lock_timeout"])[:80]
            raise InvalidValue("lock_timeout", "seconds, more than 0", got) from None
    if "prepare" in ours:
        if ours["prepare"] not in ("on", "off"):
            raise InvalidValue("prepare", "on or off", repr(ours["prepare"])[:80])
        values["prepare"] = ours["prepare"] == "on"
    return read_options(**values)


def _parameters() -> set[str]:
    """The names of libpq's parameters."""
    load_driver()
    from psycopg import pq

    names = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    # libpq takes this one in URLs only.
    return {*names, "ssl"}
