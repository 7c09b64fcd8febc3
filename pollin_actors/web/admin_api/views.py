"""Endpoints, callbacks and what happened to them as JSON, without their secrets; and back."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any

from pollin_actors.backends.values import tagged, untagged
from pollin_actors.errors import InvalidValue
from pollin_actors.handlers import HandlerInfo
from pollin_actors.intake import Intake
from pollin_actors.records import Claim, Record
from pollin_actors.resources import Callback, Endpoint, PushResult, Request
from pollin_actors.web.admin_api.strict_json import render
from pollin_actors.web.admin_api.table import THREAD_FROM, Reply

__all__ = [
    "callback_of",
    "callback_view",
    "callbacks_reply",
    "claim_view",
    "endpoint_view",
    "handler_view",
    "intake_of",
    "masked",
    "push_view",
    "record_view",
    "weight",
]

MASK = "**********"
_OVERHEAD = 512

# Names of headers whose values somebody could use, or that were made with a secret.
_CREDENTIAL = re.compile(
    "authorization|cookie|secret|token|password|credential|api-?key|signature|hmac|session"
)

_FIELDS = ("parent", "root", "origin", "ordering_key", "not_before", "fence")


def endpoint_view(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint; of its secrets the fingerprints only."""
    old = endpoint.old_secrets
    return {
        "id": endpoint.id,
        "secret_fingerprint": endpoint.secret.fingerprint(),
        "old_secrets": [{"fingerprint": o.secret.fingerprint(), "until": o.until} for o in old],
        "created_at": endpoint.created_at,
        "phases": list(endpoint.phases),
        "ttl": endpoint.ttl,
        "dedup_for": endpoint.dedup_for,
        "keep_for": endpoint.keep_for,
        "consumes": list(endpoint.consumes),
        "capacity": endpoint.capacity,
        "capacity_bytes": endpoint.capacity_bytes,
        "intake": intake_view(endpoint.intake),
    }


def intake_view(intake: Intake) -> dict[str, Any]:
    """How requests are taken in, with what is as by default."""
    return {
        "scheme": intake.scheme.text(),
        "verify": intake.verify.value,
        "enabled": intake.enabled,
        "content_types": list(intake.content_types),
        "rate": intake.rate,
        "burst": intake.burst,
    }


def intake_of(fields: Mapping[str, Any]) -> Intake:
    """What a body says of how requests are taken in.

    Raises:
        InvalidValue: a field is not acceptable.
    """
    return Intake.from_fields(fields)


def callback_view(callback: Callback) -> dict[str, Any]:
    """A callback; values of headers that carry credentials are hidden."""
    return {
        "id": callback.id,
        "phase": callback.phase,
        "created_at": callback.created_at,
        "attempts": callback.attempts,
        "size": callback.size,
        **{name: getattr(callback, name) for name in _FIELDS},
        **_request_view(callback.request),
    }


def _request_view(request: Any) -> dict[str, Any]:
    if not isinstance(request, Request):
        return _value_view(request)
    headers = [[name, masked(name, value)] for name, value in request.headers]
    try:
        return {"headers": headers, "body": request.body.decode()}
    except UnicodeDecodeError:
        return {"headers": headers, "body_base64": b64encode(request.body).decode("ascii")}


def masked(name: str, value: str) -> str:
    """A value of a header, hidden if its name says that it is a credential."""
    return MASK if _CREDENTIAL.search(name.lower()) else value


def _value_view(value: Any) -> dict[str, Any]:
    try:
        view = {"value": tagged(value)}
        render(view)
    except ValueError:
        kind = type(value)
        return {"unshown": f"{kind.__module__}.{kind.__qualname__}"}
    return view


def callback_of(fields: Mapping[str, Any], where: str = "body") -> Callback:
    """The callback that a body describes.

    Raises:
        InvalidValue: a field is not acceptable.
    """
    names = ("id", "parent", "ordering_key", "not_before", "fence")
    more = {name: fields.get(name) for name in names}
    return Callback.new(_request_of(fields, where), phase=fields.get("phase", ""), **more)


def _request_of(fields: Mapping[str, Any], where: str) -> Any:
    if "value" in fields:
        try:
            return untagged(fields["value"])
        except (LookupError, TypeError, ValueError):
            expected = "a value as it is shown, in which `$` marks what JSON lacks"
            raise InvalidValue(f"{where}.value", expected, "another use of `$`") from None
    headers = [(name, value) for name, value in fields.get("headers", ())]
    return Request(headers, _body_of(fields, where))


def _body_of(fields: Mapping[str, Any], where: str) -> bytes:
    if "body_base64" not in fields:
        return str(fields.get("body", "")).encode()
    try:
        return b64decode(fields["body_base64"], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidValue(f"{where}.body_base64", "base64", "something else") from None


def callbacks_reply(callbacks: Iterable[Callback], **more: Any) -> Reply:
    """Callbacks as an answer, made on a thread where they are large."""
    found = list(callbacks)

    def make() -> dict[str, Any]:
        return {"callbacks": [callback_view(callback) for callback in found], **more}

    return Reply(make, size=weight(found))


def weight(callbacks: Iterable[Callback]) -> int:
    """About how many bytes it takes to show callbacks."""
    return sum(_OVERHEAD + (callback.size or _unknown(callback)) for callback in callbacks)


def _unknown(callback: Callback) -> int:
    """Values that are no requests have no size: any may be a large one."""
    return 0 if isinstance(callback.request, Request | None) else THREAD_FROM


def push_view(result: PushResult) -> dict[str, Any]:
    """What became of a push."""
    return {"callback": callback_view(result.callback), "outcome": result.outcome.value}


def claim_view(claim: Claim) -> dict[str, Any]:
    """A claim, with the token that it is acknowledged with."""
    return {
        "endpoint_id": claim.endpoint_id,
        "key": claim.key,
        "token": claim.token,
        "until": claim.until,
        "attempt": claim.attempt,
        "callback": callback_view(claim.callback),
    }


def record_view(record: Record) -> dict[str, Any]:
    """One change of a callback."""
    return {**record._asdict(), "kind": record.kind.value}


def handler_view(info: HandlerInfo) -> dict[str, Any]:
    """One handler."""
    return {**info._asdict(), "state": info.state.value}
