"""How requests are taken in for an endpoint: what the receiver asks of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pollin_actors.checking import check_text, describe
from pollin_actors.errors import InvalidValue
from pollin_actors.signatures import Scheme, SharedSecret, parse_scheme

__all__ = ["Intake", "Verify"]

MAX_RATE = 1_000_000.0
HEADER = "header:"
MAX_ORDER_BY = 200
MAX_CONTENT_TYPE = 200
_BY_DEFAULT = SharedSecret()
# What lies where RFC 6901 says; a header's name is of RFC 9110's characters.
_POINTER = re.compile(r"(/([^~/]|~[01])*)+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Verify(StrEnum):
    """When it is found out whether a request is genuine."""

    FIRST = "first"
    """Before it is stored: what is not genuine leaves no trace."""
    LATER = "later"
    """From a queue of its own, after it was answered. What is not genuine stays in quarantine."""


@dataclass(frozen=True, slots=True, init=False)
class Intake:
    """What the receiver asks of requests for an endpoint.

    Arguments:
        scheme: how they are signed: a ``Scheme``, or its text, such as ``"github"``.
        verify: ``"first"`` or ``"later"``, see :class:`Verify`.
        enabled: False: every request is refused with 410, which tells most senders to stop.
        content_types: of the body, such as ``"application/json"``; others are refused. None given:
            any.
        rate: requests per second that are taken in the long run, by each process; None: any.
        burst: how many are taken at once after a pause; None: as many as in one second of
            ``rate``, and at least 1.
        order_by: where in a request its ordering key is: a JSON pointer into the body, such as
            ``"/data/customer"``, which leads to a text or a whole number, or ``"header:"`` and
            the name of a header. A request that has none is not ordered.

    Raises:
        InvalidValue: a field is not acceptable; the error names it.
    """

    scheme: Scheme
    verify: Verify
    enabled: bool
    content_types: tuple[str, ...]
    rate: float | None
    burst: int | None
    order_by: str | None

    def __init__(
        self,
        scheme: Scheme | str = _BY_DEFAULT,
        verify: Verify | str = Verify.FIRST,
        enabled: bool = True,
        content_types: Iterable[str] = (),
        rate: float | None = None,
        burst: int | None = None,
        order_by: str | None = None,
    ) -> None:
        if verify not in ("first", "later"):
            raise InvalidValue("Intake.verify", "'first' or 'later'", repr(verify)[:80])
        if not isinstance(enabled, bool):
            raise InvalidValue("Intake.enabled", "True or False", repr(enabled)[:80])
        if burst is not None and (
            isinstance(burst, bool) or not isinstance(burst, int) or not 1 <= burst <= MAX_RATE
        ):
            raise InvalidValue("Intake.burst", "an int of at least 1", describe(burst))
        object.__setattr__(self, "scheme", _read_scheme(scheme))
        object.__setattr__(self, "verify", Verify(verify))
        object.__setattr__(self, "enabled", enabled)
        object.__setattr__(self, "content_types", _read_types(content_types))
        object.__setattr__(self, "rate", None if rate is None else _read_rate(rate))
        object.__setattr__(self, "burst", burst)
        object.__setattr__(self, "order_by", None if order_by is None else _read_place(order_by))

    def as_fields(self) -> dict[str, Any]:
        """Those that are not as by default, as values of JSON."""
        fields: dict[str, Any] = {}
        if self.scheme != _BY_DEFAULT:
            fields["scheme"] = self.scheme.text()
        if self.verify is not Verify.FIRST:
            fields["verify"] = self.verify.value
        if not self.enabled:
            fields["enabled"] = False
        if self.content_types:
            fields["content_types"] = list(self.content_types)
        if self.rate is not None:
            fields["rate"] = self.rate
        if self.burst is not None:
            fields["burst"] = self.burst
        if self.order_by is not None:
            fields["order_by"] = self.order_by
        return fields

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Intake:
        """What :meth:`as_fields` was of.

        Raises:
            InvalidValue: a field is unknown, or not acceptable.
        """
        unknown = [name for name in fields if name not in cls.__slots__]
        if unknown:
            raise InvalidValue("Intake", f"fields {', '.join(cls.__slots__)}", repr(unknown)[:80])
        return cls(**fields)


def _read_scheme(value: object) -> Scheme:
    if isinstance(value, str):
        return parse_scheme(value)
    if not isinstance(value, Scheme):
        raise InvalidValue("Intake.scheme", "a Scheme, or its text", f"a {type(value).__name__}")
    return value


def _read_place(value: object) -> str:
    expected = "a JSON pointer, such as /data/customer, or header: and a header's name"
    if not isinstance(value, str):
        raise InvalidValue("Intake.order_by", expected, describe(value))
    check_text("Intake.order_by", value, MAX_ORDER_BY)
    name = value.removeprefix(HEADER)
    if not (_POINTER if name == value else _HEADER_NAME).fullmatch(name):
        raise InvalidValue("Intake.order_by", expected, describe(value))
    return value


def _read_types(value: object) -> tuple[str, ...]:
    expected = "media types, such as application/json"
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        got = f"a {type(value).__name__}"
        raise InvalidValue("Intake.content_types", expected, got, "pass a list of them")
    types = []
    for item in value:
        main, slash, sub = item.partition("/") if isinstance(item, str) else ("", "", "")
        if not (main and slash and sub and item.isascii() and item.isprintable()) or " " in item:
            raise InvalidValue("Intake.content_types", expected, repr(item)[:80])
        if len(item) > MAX_CONTENT_TYPE:
            most = f"media types of at most {MAX_CONTENT_TYPE} characters"
            raise InvalidValue("Intake.content_types", most, f"one of {len(item)}")
        types.append(item.lower())
    return tuple(dict.fromkeys(types))


def _read_rate(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_RATE:
        expected = f"a number of requests per second, more than 0 and at most {MAX_RATE:.0f}"
        raise InvalidValue("Intake.rate", expected, describe(value))
    return float(value)
