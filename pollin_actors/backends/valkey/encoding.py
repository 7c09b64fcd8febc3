"""How endpoints, callbacks and records look on the server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, TypeAlias

from pollin_actors.backends.values import Stored, decode
from pollin_actors.errors import BackendUnavailable, InvalidValue
from pollin_actors.records import Kind, Record
from pollin_actors.resources import Callback, Endpoint, Intake, OldSecret, Secret

__all__ = [
    "LARGEST",
    "callbacks_of",
    "digest",
    "encoded",
    "endpoint_key",
    "endpoint_name",
    "read_endpoint",
    "records_of",
    "terms",
    "time",
    "write_body",
    "write_endpoint",
]

LARGEST = (1 << 63) - 1
"""The largest integer that is stored, as in the other backends."""

_DAMAGE = (AttributeError, LookupError, TypeError, ValueError, RecursionError)

Pieces: TypeAlias = "Sequence[Any]"


def encoded(text: str) -> bytes:
    """A text as bytes. One with lone surrogates, which is no id or phase, is like no other."""
    return text.encode("utf-8", "surrogatepass")


def time(nanoseconds: int) -> bytes:
    """A time, or a duration, as the functions compare it: 19 digits."""
    return b"%019d" % nanoseconds


def endpoint_key(prefix: str, endpoint_id: str) -> bytes:
    """The key of an endpoint's record: what is in the braces decides about its hash slot."""
    name = endpoint_id.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
    return encoded(f"{prefix}:{{{name}}}")


def endpoint_name(name: bytes) -> str:
    """The id of an endpoint, of what is in the braces."""
    text = name.decode("utf-8", "replace")
    return text.replace("%7D", "}").replace("%7B", "{").replace("%25", "%")


def digest(secret: object) -> bytes:
    """By what the server knows a secret: it is never sent when something is pushed.

    What can be no secret has an empty one, which is like no other.
    """
    if isinstance(secret, Secret):
        octets = secret.encode()
    elif isinstance(secret, str):
        octets = encoded(secret)
    elif isinstance(secret, bytes):
        octets = secret
    else:
        return b""
    return sha256(octets).hexdigest().encode()


# -- endpoints -------------------------------------------------------------------------------------


def write_endpoint(endpoint: Endpoint) -> bytes:
    """The endpoint as JSON.

    Raises:
        InvalidValue: a number is larger than what is stored.
    """
    limits = {
        "created_at": endpoint.created_at,
        "capacity": endpoint.capacity or 0,
        "capacity_bytes": endpoint.capacity_bytes or 0,
    }
    for name, value in limits.items():
        if value > LARGEST:
            raise InvalidValue(f"Endpoint.{name}", f"at most {LARGEST}", "more")
    fields = {
        "id": endpoint.id,
        "secret": endpoint.secret.reveal(),
        "phases": endpoint.phases,
        "ttl": endpoint.ttl,
        "created_at": endpoint.created_at,
        "dedup_for": endpoint.dedup_for,
        "keep_for": endpoint.keep_for,
        "consumes": endpoint.consumes,
        "capacity": endpoint.capacity,
        "capacity_bytes": endpoint.capacity_bytes,
        "intake": endpoint.intake.as_fields(),
        "old_secrets": [(old.secret.reveal(), old.until) for old in endpoint.old_secrets],
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def read_endpoint(text: bytes, label: str) -> Endpoint:
    """What :func:`write_endpoint` was of.

    Raises:
        BackendUnavailable: it is damaged, or of a later version.
    """
    try:
        fields = json.loads(text)
        intake = fields.pop("intake")
        old = tuple([OldSecret(Secret(one), until) for one, until in fields.pop("old_secrets")])
        secret = Secret(fields.pop("secret"))
        fields.update(phases=tuple(fields["phases"]), consumes=tuple(fields["consumes"]))
        plain = Endpoint(secret=secret, old_secrets=old, **fields)
    except _DAMAGE as error:
        # The text has secrets: what the error says of it stays out.
        raise _damaged(label, "an endpoint", "delete it", error) from None
    try:
        taken = Intake.from_fields(intake)
    except InvalidValue as error:
        # Not damaged, most likely: a later version knows more schemes.
        reason = f"{label}: how endpoint {plain.id!r} takes requests in is not known here"
        hint = "upgrade pollin-actors, or update the endpoint"
        raise BackendUnavailable("valkey", f"{reason} ({error})", hint) from error
    return plain.replace(intake=taken)


def terms(endpoint: Endpoint) -> list[bytes]:
    """What the functions need of an endpoint, as arguments."""

    def duration(nanoseconds: int) -> bytes:
        return time(nanoseconds) if nanoseconds else b""

    def limit(value: int | None) -> bytes:
        return b"" if value is None else b"%d" % value

    secrets = [digest(endpoint.secret), b""]
    for old in endpoint.old_secrets:
        secrets += digest(old.secret), time(old.until)
    return [
        duration(endpoint.ttl * 1_000_000),
        duration(round(endpoint.dedup_for * 1e9)),
        duration(round(endpoint.keep_for * 1e9)),
        limit(endpoint.capacity),
        limit(endpoint.capacity_bytes),
        b"%d" % len(endpoint.phases),
        *map(encoded, endpoint.phases),
        b"%d" % len(endpoint.consumes),
        *map(encoded, endpoint.consumes),
        b"%d" % (len(secrets) // 2),
        *secrets,
    ]


# -- callbacks -------------------------------------------------------------------------------------


def write_body(created_at: int, stored: Stored) -> bytes:
    """What never changes of a callback, and the functions do not look into."""
    kind, headers, body = stored
    head = headers or b""
    return b"%d\0%d\0%d\0%b%b" % (created_at, kind, len(head), head, body)


def callbacks_of(reply: Pieces, first: int, label: str) -> list[Callback]:
    """The callbacks of a reply from there on: of each its fields, and its body.

    Raises:
        BackendUnavailable: one of them is damaged.
    """
    return [_callback(reply[at], reply[at + 1], label) for at in range(first, len(reply), 2)]


def _callback(fields: bytes, body: bytes, label: str) -> Callback:
    id, phase, parent, root, origin, order, not_before, attempts, fence = fields.decode().split(
        "\0"
    )
    try:
        created_at, kind, length, rest = body.split(b"\0", 3)
        end = int(length)
        request = decode((int(kind), rest[:end], rest[end:]))
        return Callback(
            id,
            request,
            phase,
            int(created_at),
            parent or None,
            root or None,
            origin or None,
            order or None,
            int(not_before) if not_before else None,
            int(attempts),
            fence or None,
        )
    except _DAMAGE as error:
        raise _damaged(label, f"callback {id!r}", "delete it by its key", error) from error


def records_of(reply: Pieces, first: int, endpoint_id: str) -> list[Record]:
    """The records of a reply from there on: of each its position, and its text."""
    return [
        _record(int(reply[at]), reply[at + 1].decode(), endpoint_id)
        for at in range(first, len(reply), 2)
    ]


def _record(position: int, text: str, endpoint_id: str) -> Record:
    _, _, kind, before, after, at, by, attempt, reason, id = text.split("\0")
    parts = (before or None, after or None, int(at), by, int(attempt), reason)
    return Record(position, endpoint_id, id, _KINDS[kind], *parts)


_KINDS = {str(kind.value): kind for kind in Kind}


def _damaged(label: str, what: str, remedy: str, error: Exception) -> BackendUnavailable:
    reason = f"{label}: what is stored of {what} is damaged ({type(error).__name__})"
    return BackendUnavailable("valkey", reason, f"{remedy}, or restore the store from a copy")
