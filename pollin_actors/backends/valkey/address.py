"""Where a store is: what a URL says, without letting its password out."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pollin_actors.errors import InvalidValue

__all__ = ["SCHEMES", "Address", "parse"]

_TCP = ("valkey", "redis")
_TLS = ("valkeys", "rediss")
_UNIX = ("valkey+unix", "redis+unix")
SCHEMES = (*_TCP, *_TLS, *_UNIX)

_FORM = "valkey://host:6379/0, valkeys:// with TLS, or valkey+unix:///path/of/its/socket"
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
# As the client calls them.
_TLS_OPTIONS = {
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_check_hostname": bool,
}
_OPTIONS = ("cluster", "prefix", "timeout", "db")


@dataclass(frozen=True, repr=False)
class Address:
    """A server, and how it is used.

    Arguments:
        label: what errors and logs call it; no password is in it.
        kind: ``tcp``, ``tls`` or ``unix``.
        connection: what the client's connection takes.
        prefix: with which all keys begin.
        cluster: whether it is one; None: the server is asked.
        timeout: seconds for which an answer is waited for.
    """

    label: str
    kind: str
    connection: dict[str, Any] = field(repr=False)
    prefix: str = "pollin"
    cluster: bool | None = None
    timeout: float = 5.0

    def __repr__(self) -> str:
        return f"Address({self.label!r})"


def parse(url: str) -> Address:
    """Read a URL.

    Raises:
        InvalidValue: it is none of ours, or has unknown options; no part of it is in the text.
    """
    scheme, found, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in SCHEMES or not found:
        raise InvalidValue("backend", f"a URL such as {_FORM}", f"{len(url)} characters")
    try:
        parts = urlsplit(f"{scheme.replace('+', '-')}://{rest}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise InvalidValue("backend", f"a URL such as {_FORM}", "one that is malformed") from None
    if parts.fragment:
        hint = "write a # in a name or password as %23, ? as %3F, / as %2F"
        raise InvalidValue("backend", "a URL without a fragment", "one with a #", hint)
    options = _options(parts.query, scheme in _TLS)
    database = options.pop("db", None)
    connection: dict[str, Any] = {}
    if parts.username:
        connection["username"] = unquote(parts.username)
    if parts.password:
        connection["password"] = unquote(parts.password)
    if scheme in _UNIX:
        path = unquote(parts.path)
        if host or not path:
            hint = "write three slashes: valkey+unix:///path"
            raise InvalidValue("backend", "the path of a socket", "none, or a host", hint)
        kind, label, connection["path"] = "unix", path, path
    else:
        kind = "tls" if scheme in _TLS else "tcp"
        if database is None and parts.path.strip("/"):
            database = _natural("db", parts.path.strip("/"))
        host, port = host or "localhost", port or 6379
        connection.update(host=host, port=port)
        label = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if database:
        connection["db"] = database
        label = f"{label}/{database}"
    for name in _TLS_OPTIONS:
        if name in options:
            connection[name] = options.pop(name)
    return Address(label, kind, connection, **options)


def _options(query: str, tls: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    known = (*_OPTIONS, *_TLS_OPTIONS) if tls else _OPTIONS
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            expected = f"no options but {', '.join(known)}"
            # What is no name may be the end of a password that has a question mark.
            got = repr(name)[:80] if name.isidentifier() else f"{len(name)} other characters"
            raise InvalidValue("backend", expected, got)
        if name == "cluster" or _TLS_OPTIONS.get(name) is bool:
            if value.lower() not in _BOOLEANS:
                raise InvalidValue(name, "true or false", repr(value)[:80])
            found[name] = _BOOLEANS[value.lower()]
        elif name == "timeout":
            found[name] = _seconds(value)
        elif name == "db":
            found[name] = _natural(name, value)
        elif name == "prefix":
            if (
                not 0 < len(value) <= 100
                or not value.isprintable()
                or any(c in "{}" for c in value)
            ):
                expected = "1 to 100 printable characters without braces"
                raise InvalidValue(name, expected, repr(value)[:80])
            found[name] = value
        else:
            found[name] = value
    return found


def _seconds(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not isfinite(number) or not 0 < number <= 3600:
        raise InvalidValue("timeout", "seconds, more than 0, at most 3600", repr(value)[:80])
    return number


def _natural(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 6):
        raise InvalidValue(name, "the number of a database", f"{len(value)} characters")
    return int(value)
