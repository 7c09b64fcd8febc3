"""The operations on the callbacks of an endpoint."""

from __future__ import annotations

from typing import Any

from pollin_actors.errors import CallbackNotFound, InvalidValue
from pollin_actors.messages import DumpPage
from pollin_actors.otp import ReplyFuture
from pollin_actors.resources import Outcome, PushResult
from pollin_actors.web.admin_api import schemas as s
from pollin_actors.web.admin_api.cursors import read_position, write_cursor
from pollin_actors.web.admin_api.schemas import array, object_of, ref
from pollin_actors.web.admin_api.secrets_shown import secrets_of
from pollin_actors.web.admin_api.table import Call, Operation, Reply, off_loop
from pollin_actors.web.admin_api.views import (
    callback_of,
    callback_view,
    callbacks_reply,
    push_view,
    weight,
)

__all__ = ["OPERATIONS"]

_CALLBACKS = "/endpoints/{endpoint_id}/callbacks"
_ONE = "/endpoints/{endpoint_id}/callback"

_PAGE = object_of({"callbacks": array(ref("Callback")), "next": s.NEXT}, "callbacks", "next")
_SOME = object_of({"callbacks": array(ref("Callback"))}, "callbacks")
_SLICE: dict[str, Any] = {"phase": s.PHASE, "offset": s.OFFSET, "limit": s.LIMIT}


async def page(call: Call) -> Reply:
    after = read_position(call.query.get("cursor"), "queue")
    secrets = await secrets_of(call)
    message = DumpPage(call.endpoint_id, after, call.query["limit"])
    mailbox = call.app.callbacks._mailbox(call.endpoint_id)
    callbacks, cursor = await mailbox.ask(message, call.timeout)
    following = None if cursor is None else write_cursor("queue", cursor)
    return callbacks_reply(callbacks, secrets, next=following)


async def push(call: Call) -> Reply:
    def begin() -> ReplyFuture[PushResult]:
        # A value is made ready for the store by whoever pushes it, and may be a large one.
        callback = callback_of(call.body)
        return call.app.callbacks.push(call.endpoint_id, callback, timeout=call.timeout)

    secrets = await secrets_of(call)
    result = await (await off_loop(call, begin))
    status = 201 if result.outcome is Outcome.QUEUED else 200
    return Reply(lambda: push_view(result, secrets), status, weight([result.callback]))


async def take(call: Call) -> Reply:
    key, body, callbacks = call.body.get("key"), call.body, call.app.callbacks
    more = {name: body[name] for name in ("phase", "limit") if name in body}
    # The offset has a default, which says nothing.
    if more or body["offset"]:
        if key is not None:
            hint = "leave one of them out"
            raise InvalidValue("body.key", "a key, or a phase, offset and limit", "both", hint)
        secrets = await secrets_of(call)
        found = await callbacks.pop(
            call.endpoint_id, offset=body["offset"], timeout=call.timeout, **more
        )
        return callbacks_reply(found, secrets)
    secrets = await secrets_of(call)
    if key is None:
        one = await callbacks.pop(call.endpoint_id, timeout=call.timeout)
    else:
        one = await callbacks.pop(call.endpoint_id, key=key, timeout=call.timeout)
    return callbacks_reply([] if one is None else [one], secrets)


async def fetch_slice(call: Call) -> Reply:
    secrets = await secrets_of(call)
    found = await call.app.callbacks.fetch(call.endpoint_id, timeout=call.timeout, **_slice(call))
    return callbacks_reply(found, secrets)


async def fetch_reverse(call: Call) -> Reply:
    secrets = await secrets_of(call)
    found = await call.app.callbacks.fetch_reverse(
        call.endpoint_id, timeout=call.timeout, **_slice(call)
    )
    return callbacks_reply(found, secrets)


async def head(call: Call) -> Reply:
    secrets = await secrets_of(call)
    one = await call.app.callbacks.fetch(call.endpoint_id, timeout=call.timeout)
    return callbacks_reply([] if one is None else [one], secrets)


async def fetch(call: Call) -> Reply:
    key = call.query["key"]
    secrets = await secrets_of(call)
    found = await call.app.callbacks.fetch(
        call.endpoint_id, key=key, kept=call.query["kept"], timeout=call.timeout
    )
    if found is None:
        raise CallbackNotFound(call.endpoint_id, key)
    return Reply(lambda: callback_view(found, secrets), size=weight([found]))


async def count(call: Call) -> dict[str, Any]:
    phase = call.query.get("phase")
    found = await call.app.callbacks.count(call.endpoint_id, phase=phase, timeout=call.timeout)
    return {"count": found}


async def delete(call: Call) -> Reply:
    key = call.query["key"]
    queued = await call.app.callbacks.delete(call.endpoint_id, key=key, timeout=call.timeout)
    if not queued:
        raise CallbackNotFound(call.endpoint_id, key)
    return Reply()


async def move(call: Call) -> Reply:
    secrets = await secrets_of(call)
    moved = await call.app.callbacks.update_phase(
        call.endpoint_id,
        key=call.query["key"],
        phase=call.body["phase"],
        expect=call.body.get("expect"),
        timeout=call.timeout,
    )
    return Reply(lambda: callback_view(moved, secrets), size=weight([moved]))


def _slice(call: Call) -> dict[str, Any]:
    return {name: call.query.get(name) for name in ("phase", "offset", "limit")}


OPERATIONS = (
    Operation(
        id="list_callbacks",
        method="GET",
        path=_CALLBACKS,
        summary="All that is queued, oldest first, a page at a time.",
        run=page,
        query={"cursor": s.CURSOR, "limit": s.LIMIT},
        replies={200: _PAGE},
    ),
    Operation(
        id="push",
        method="POST",
        path=_CALLBACKS,
        summary="Push a callback; 200 means that it is a duplicate, and added nothing.",
        run=push,
        body=s.NEW_CALLBACK,
        replies={201: ref("Pushed"), 200: ref("Pushed")},
    ),
    Operation(
        id="pop",
        method="POST",
        path=f"{_CALLBACKS}/pop",
        summary="Remove the oldest callback that is available, the one of a key, or a slice.",
        run=take,
        body=s.TAKEN,
        replies={200: _SOME},
    ),
    Operation(
        id="fetch_slice",
        method="GET",
        path=f"{_CALLBACKS}/slice",
        summary="A slice of the queue, oldest first.",
        run=fetch_slice,
        query=_SLICE,
        replies={200: _SOME},
    ),
    Operation(
        id="fetch_reverse",
        method="GET",
        path=f"{_CALLBACKS}/reverse",
        summary="A slice of the queue, newest first.",
        run=fetch_reverse,
        query=_SLICE,
        replies={200: _SOME},
    ),
    Operation(
        id="fetch_head",
        method="GET",
        path=f"{_CALLBACKS}/head",
        summary="The oldest callback, if there is one.",
        run=head,
        replies={200: _SOME},
    ),
    Operation(
        id="count",
        method="GET",
        path=f"{_CALLBACKS}/count",
        summary="How many callbacks are queued, or are in a phase.",
        run=count,
        query={"phase": s.PHASE},
        replies={200: object_of({"count": s.COUNT}, "count")},
    ),
    Operation(
        id="fetch",
        method="GET",
        path=_ONE,
        summary="A callback; with kept=true also one that has left the queue.",
        run=fetch,
        query={"key": s.KEY, "kept": s.FLAG},
        required=("key",),
        replies={200: ref("Callback")},
    ),
    Operation(
        id="move_callback",
        method="PATCH",
        path=_ONE,
        summary="Move a callback into another phase; with expect only out of that one.",
        run=move,
        query={"key": s.KEY},
        required=("key",),
        body=s.MOVE,
        replies={200: ref("Callback")},
        errors=(409,),
    ),
    Operation(
        id="delete_callback",
        method="DELETE",
        path=_ONE,
        summary="Remove a callback.",
        run=delete,
        query={"key": s.KEY},
        required=("key",),
        replies={204: None},
    ),
)
