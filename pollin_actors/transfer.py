"""Endpoints and callbacks as lines of JSON (NDJSON): out of one inbox and into another.

```python
with open("inbox.ndjson", "wb") as file:
    file.writelines(dump(app))

with open("inbox.ndjson", "rb") as file:
    load(other, file)
```
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pollin_actors.application import Application
from pollin_actors.backends.values import is_plain, tagged, untagged
from pollin_actors.errors import (
    CallbackNotFound,
    EndpointNotFound,
    InvalidValue,
    PollinError,
)
from pollin_actors.loosened import LOADING, Loosened
from pollin_actors.masking import Secrets, without_secrets
from pollin_actors.otp import OtpError, ReplyFuture
from pollin_actors.resources import (
    DEFAULT_KEEP_FOR_S,
    Callback,
    Endpoint,
    Intake,
    OldSecret,
    Outcome,
    PushResult,
    Request,
    Secret,
)
from pollin_actors.settings import DEFAULT_TIMEOUT

__all__ = ["Loaded", "dump", "load"]

VERSION = 1
# At most so many callbacks, and so many characters of lines, are under way.
IN_FLIGHT = 256
IN_FLIGHT_SIZE = 8 * 1024 * 1024

# Fields of few callbacks: written where there is something to write.
_RARE = ("parent", "root", "origin", "ordering_key", "not_before", "fence")
# So many parents are remembered as being there.
PARENTS = 1_000

_HEADER = {"pollin": "dump", "version": VERSION}
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Loaded(NamedTuple):
    """What became of a dump that was loaded."""

    endpoints: int
    """Endpoints that were created."""
    queued: int
    """Callbacks that were added."""
    duplicates: int
    """Callbacks whose ids were known, and which added nothing."""


def dump(
    app: Application,
    endpoint_ids: Iterable[str] | None = None,
    *,
    secrets: bool = False,
    timeout: float | None = DEFAULT_TIMEOUT,
) -> Iterator[bytes]:
    """The contents of an inbox, a line at a time. Memory stays flat: it reads page by page.

    What is queued all the while comes exactly once; what is pushed or removed meanwhile may come
    or not. The last line says how many lines there were, so that a dump that was cut off is
    noticed. The memory of ids that are no longer queued is not in it.

    Arguments:
        app: a running application.
        endpoint_ids: whose callbacks; None: those of all endpoints.
        secrets: whether the endpoints' secrets are in it. Without them an endpoint that the
            other inbox does not have gets a new one there, and a header of a request that shows
            one of them has ``**********`` as its value. Everything else is as it came, other
            credentials too: keep a dump accordingly.
        timeout: seconds for each page that is read.

    Raises:
        EndpointNotFound: there is no such endpoint.
        InvalidValue: a callback holds a value that is not a Request, and not made of what JSON
            has; only the memory backend takes such values.
    """
    if isinstance(endpoint_ids, str):
        raise InvalidValue("endpoint_ids", "ids, each a str", "a str", "put it into a list")
    if endpoint_ids is None:
        endpoints = app.endpoints.index(timeout=timeout).get()
    else:
        endpoints = [_find(app, id, timeout) for id in dict.fromkeys(endpoint_ids)]
    # A request may also show the secret of another endpoint, from which it has come here.
    others = None
    if not secrets:
        others = Secrets(_secrets(app.endpoints.index(timeout=timeout).get()))
    yield _line(_HEADER)
    for endpoint in endpoints:
        yield _line({"endpoint": _endpoint_fields(endpoint, secrets)})
    callbacks = 0
    for endpoint in endpoints:
        hidden = None if secrets else Secrets(_secrets([endpoint]), others)
        try:
            for callback in app.callbacks.dump(endpoint.id, timeout=timeout):
                yield _callback_line(endpoint.id, callback, hidden)
                callbacks += 1
        except EndpointNotFound:
            if endpoint_ids is not None:
                raise
            # It was deleted meanwhile, and is not what was asked for by name.
    yield _line({"end": {"endpoints": len(endpoints), "callbacks": callbacks}})


def load(
    app: Application, lines: Iterable[bytes | str], *, timeout: float | None = DEFAULT_TIMEOUT
) -> Loaded:
    """Add what :func:`dump` wrote. Memory stays flat.

    Callbacks keep id, phase, time of creation, order, and what else they have; their time to live
    begins anew. A sub event whose parent is neither in the dump nor in the inbox becomes one of
    its own.
    Endpoints that exist are left as they are. It is no transaction, but it can be repeated: what
    was added before an error is not added again while its id is remembered. What failed then
    comes behind what followed it, if that was on its way already.

    All that was queued is taken, also what is beyond the capacity that an endpoint has come to
    have, or in a phase that it has no more: meanwhile it has no capacity, and a phase more that
    says so. Where a load was killed, it stays so until the same dump is loaded again.

    Arguments:
        app: a running application.
        lines: for example a file that is open for reading.
        timeout: seconds for each callback.

    Raises:
        InvalidValue: a line is not one of a dump, or the end is missing; names the line.
        PollinError, OtpError: what ``push`` and ``create`` raise, with a note that names the line.
    """
    loading = _Loading(app, timeout)
    try:
        for number, line in enumerate(lines, 1):
            loading.take(number, line)
        loaded = loading.finish()
        loading.restore_endpoints()
        return loaded
    except Exception as error:
        # An earlier line may have failed too, and nothing is to be under way any more.
        earlier = loading.abandon()
        loading.tell_what_is_done(error if earlier is None else earlier)
        if earlier is not None:
            raise earlier from error
        raise
    finally:
        loading.restore_endpoints(failed=True)


class _Loading:
    def __init__(self, app: Application, timeout: float | None) -> None:
        self._app = app
        self._timeout = timeout
        self._under_way: deque[tuple[int, int, ReplyFuture[PushResult]]] = deque()
        self._size = 0
        self._loosened = Loosened(app.endpoints, timeout)
        self._parents: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._begun = self._ended = False
        self._endpoints = self._created = self._callbacks = self._queued = 0

    def take(self, number: int, line: bytes | str) -> None:
        where = f"line {number} of the dump"
        if not isinstance(line, bytes | bytearray | str):
            raise InvalidValue(where, "bytes or str", f"a {type(line).__name__}")
        if not line.strip():
            return
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise InvalidValue(where, "a JSON object", f"{len(line)} characters of something else")
        if not self._begun:
            if fields != _HEADER:
                raise InvalidValue(where, json.dumps(_HEADER), _names(fields))
            self._begun = True
            return
        if self._ended or len(fields) != 1:
            expected = "nothing after the end" if self._ended else "an object with one name"
            raise InvalidValue(where, expected, _names(fields))
        [(kind, content)] = fields.items()
        try:
            if kind == "endpoint":
                self._endpoint(content)
            elif kind == "callback":
                self._callback(number, len(line), content)
            elif kind == "end":
                self._end(content)
            else:
                raise InvalidValue(where, "endpoint, callback or end", repr(kind)[:80])
        except (PollinError, OtpError) as error:
            if not getattr(error, "__notes__", None):
                error.add_note(f"at {where}")
            raise
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise InvalidValue(where, "the fields that dump writes", repr(error)[:80]) from error

    def settle(self) -> None:
        """Wait for all that is under way."""
        while self._under_way:
            self._settle_first()

    def abandon(self) -> Exception | None:
        """Wait for all that is under way, whatever becomes of it; the first failure, if any."""
        first: Exception | None = None
        while self._under_way:
            try:
                self._settle_first()
            except Exception as error:
                first = first or error
        return first

    def tell_what_is_done(self, error: Exception) -> None:
        """Have an error say that what came before is loaded, unless it says so, or nothing is."""
        said = " ".join([str(error), *getattr(error, "__notes__", ())])
        if (self._created or self._queued) and "load" not in said:
            error.add_note("what came before is loaded; loading it again adds nothing twice")

    def restore_endpoints(self, failed: bool = False) -> None:
        self._loosened.restore(failed)

    def finish(self) -> Loaded:
        self.settle()
        if not self._ended:
            hint = "it was cut off: what was in it is loaded, and the rest is missing"
            raise InvalidValue("the dump", "a line that says it ends", "none", hint)
        return Loaded(self._created, self._queued, self._callbacks - self._queued)

    def _endpoint(self, fields: dict[str, Any]) -> None:
        self._endpoints += 1
        found = self._app.endpoints.find(fields["id"], timeout=self._timeout).get()
        if found is None:
            self._created += self._loosened.create(_endpoint(fields))
        elif found.created_at == fields["created_at"]:
            self._loosened.take_over(found, _endpoint(fields))

    def _callback(self, number: int, size: int, fields: dict[str, Any]) -> None:
        callback = _callback(fields)
        self._loosened.allow(fields["endpoint"], callback.phase)
        if callback.parent is not None and not self._holds(fields["endpoint"], callback.parent):
            callback = callback.replace(parent=None, root=None)
        reply = self._app.callbacks.push(fields["endpoint"], callback, timeout=self._timeout)
        self._under_way.append((number, size, reply))
        self._size += size
        self._callbacks += 1
        while len(self._under_way) >= IN_FLIGHT or self._size > IN_FLIGHT_SIZE:
            self._settle_first()

    def _holds(self, endpoint_id: str, key: str) -> bool:
        """Whether a callback is queued or kept; what is on its way comes before the question."""
        known = (endpoint_id, key)
        if known not in self._parents:
            calls, timeout = self._app.callbacks, self._timeout
            try:
                if calls.fetch(endpoint_id, key=key, timeout=timeout).get() is None:
                    calls.children(endpoint_id, key=key, timeout=timeout).get()
            except CallbackNotFound:
                return False
            self._parents[known] = None
            if len(self._parents) > PARENTS:
                self._parents.popitem(last=False)
        return True

    def _settle_first(self) -> None:
        number, size, reply = self._under_way.popleft()
        self._size -= size
        try:
            result = reply.get()
        except Exception as error:
            error.add_note(f"at line {number} of the dump; loading it again adds nothing twice")
            raise
        if result.outcome is Outcome.QUEUED:
            self._queued += 1

    def _end(self, fields: dict[str, Any]) -> None:
        found = {"endpoints": self._endpoints, "callbacks": self._callbacks}
        if fields != found:
            hint = "lines are missing, or were added"
            raise InvalidValue(
                "the dump", "the end to count what was there", json.dumps(found), hint
            )
        self._ended = True


def _endpoint(fields: dict[str, Any]) -> Endpoint:
    secret = fields.get("secret")
    intake = Intake.from_fields(fields.get("intake", {}))
    phases = fields["phases"]
    if isinstance(phases, list):
        # It may be of an inbox where a load has not come to its end.
        phases = [phase for phase in phases if phase != LOADING]
    return Endpoint(
        id=fields["id"],
        secret=intake.scheme.generate_secret() if secret is None else Secret(secret),
        phases=phases,
        ttl=fields["ttl"],
        created_at=fields["created_at"],
        dedup_for=fields["dedup_for"],
        # Dumps of earlier versions have none of these.
        keep_for=fields.get("keep_for", DEFAULT_KEEP_FOR_S),
        consumes=fields.get("consumes", ()),
        capacity=fields.get("capacity"),
        capacity_bytes=fields.get("capacity_bytes"),
        intake=intake,
        old_secrets=tuple(
            [OldSecret(Secret(old), until) for old, until in fields.get("old_secrets", ())]
        ),
    )


def _names(fields: dict[str, Any]) -> str:
    """What an error may show of a line: a secret may be in it."""
    return f"an object with {', '.join(map(repr, fields))}"[:80] if fields else "an empty object"


def _find(app: Application, endpoint_id: str, timeout: float | None) -> Endpoint:
    endpoint = app.endpoints.find(endpoint_id, timeout=timeout).get()
    if endpoint is None:
        raise EndpointNotFound(endpoint_id)
    return endpoint


def _line(fields: dict[str, Any]) -> bytes:
    return _encode(fields).encode("ascii") + b"\n"


def _endpoint_fields(endpoint: Endpoint, secrets: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": endpoint.id,
        "phases": endpoint.phases,
        "ttl": endpoint.ttl,
        "created_at": endpoint.created_at,
        "dedup_for": endpoint.dedup_for,
        "keep_for": endpoint.keep_for,
        "consumes": endpoint.consumes,
        "capacity": endpoint.capacity,
        "capacity_bytes": endpoint.capacity_bytes,
        "intake": endpoint.intake.as_fields(),
    }
    if secrets:
        fields["secret"] = endpoint.secret.reveal()
        fields["old_secrets"] = [(old.secret.reveal(), old.until) for old in endpoint.old_secrets]
    return fields


def _secrets(endpoints: Iterable[Endpoint]) -> list[Secret]:
    return [
        secret
        for endpoint in endpoints
        for secret in (endpoint.secret, *[old.secret for old in endpoint.old_secrets])
    ]


def _callback_line(endpoint_id: str, callback: Callback, hidden: Secrets | None) -> bytes:
    try:
        fields = _callback_fields(callback, hidden)
        return _line({"callback": {"endpoint": endpoint_id, **fields}})
    except ValueError as error:
        where = f"callback {callback.id!r} of endpoint {endpoint_id!r}"
        if not isinstance(error, InvalidValue):
            error = InvalidValue("Callback.request", "what JSON has", "an int of too many digits")
        error.add_note(f"at {where}")
        raise error from None


def _callback_fields(callback: Callback, hidden: Secrets | None) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": callback.id,
        "phase": callback.phase,
        "created_at": callback.created_at,
    }
    if not callback.is_plain:
        more = {name: getattr(callback, name) for name in _RARE}
        fields |= {name: value for name, value in more.items() if value is not None}
    request = callback.request
    if type(request) is not Request:
        return {**fields, "value": tagged(request)}
    try:
        body = {"body": request.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": b64encode(request.body).decode("ascii")}
    headers: Any = request.headers
    if hidden is not None:
        headers = tuple([(name, without_secrets(name, text, hidden)) for name, text in headers])
    plain = all(is_plain(text) for pair in headers for text in pair)
    headers = headers if plain else tagged(headers)
    return {**fields, "headers": headers, **body}


def _callback(fields: dict[str, Any]) -> Callback:
    rare = {name: fields[name] for name in _RARE if name in fields}
    return Callback(fields["id"], _request(fields), fields["phase"], fields["created_at"], **rare)


def _request(fields: dict[str, Any]) -> Any:
    if "value" in fields:
        return untagged(fields["value"])
    if "body" in fields:
        body = str.encode(fields["body"])
    else:
        body = b64decode(fields["body_base64"], validate=True)
    headers = fields["headers"]
    return Request(untagged(headers) if isinstance(headers, dict) else headers, body)
