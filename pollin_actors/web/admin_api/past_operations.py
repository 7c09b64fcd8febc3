"""What has happened, what belongs together, and doing it once more."""

from __future__ import annotations

import threading
from typing import Any

from pollin_actors.messages import HistoryPage, PastPage
from pollin_actors.otp import ReplyFuture
from pollin_actors.records import Kind, RecordPage
from pollin_actors.resources import Callback, PushResult
from pollin_actors.web.admin_api import schemas as s
from pollin_actors.web.admin_api.cursors import read_position, write_cursor
from pollin_actors.web.admin_api.schemas import array, object_of, ref
from pollin_actors.web.admin_api.secrets_shown import secrets_of
from pollin_actors.web.admin_api.table import (
    Call,
    ClientGone,
    Operation,
    Reply,
    off_loop,
    until_gone,
)
from pollin_actors.web.admin_api.views import (
    callback_of,
    callbacks_reply,
    push_view,
    record_view,
    weight,
)

__all__ = ["OPERATIONS"]

_ENDPOINT = "/endpoints/{endpoint_id}"
_CALLBACK = f"{_ENDPOINT}/callback"

_CALLBACKS = {"callbacks": array(ref("Callback"))}


async def past(call: Call) -> Reply:
    query = call.query
    after = read_position(query.get("cursor"), "past")
    bounds = {name: query.get(name) for name in ("since", "until")}
    message = PastPage(call.endpoint_id, after, query["limit"], **bounds)
    secrets = await secrets_of(call)
    callbacks, cursor = await _ask(call, message)
    following = None if cursor is None else write_cursor("past", cursor)
    return callbacks_reply(callbacks, secrets, next=following)


async def records(call: Call) -> dict[str, Any]:
    query = call.query
    after = read_position(query.get("cursor"), "records")
    after = query["after"] if after is None else after
    kinds = frozenset(map(Kind, query["kinds"])) if "kinds" in query else None
    page: RecordPage = await _ask(call, HistoryPage(call.endpoint_id, after, query["limit"], kinds))
    return {
        "records": [record_view(record) for record in page.records],
        "next": write_cursor("records", page.cursor),
        "position": page.cursor,
        "end": page.cursor == after,
    }


async def history(call: Call) -> dict[str, Any]:
    found = await call.app.callbacks.history(
        call.endpoint_id, key=call.query["key"], timeout=call.timeout
    )
    return {"records": [record_view(record) for record in found]}


async def children(call: Call) -> Reply:
    secrets = await secrets_of(call)
    found = await call.app.callbacks.children(
        call.endpoint_id, key=call.query["key"], deep=call.query["deep"], timeout=call.timeout
    )
    return callbacks_reply(found, secrets)


async def tree(call: Call) -> Reply:
    secrets = await secrets_of(call)
    found = await call.app.callbacks.tree(
        call.endpoint_id, key=call.query["key"], timeout=call.timeout
    )
    # Not nested as it is: a line may be longer than a reader of JSON goes down.
    return callbacks_reply(found, secrets)


async def cursor(call: Call) -> dict[str, Any]:
    name = call.query["name"]
    position = await call.app.callbacks.cursor(call.endpoint_id, name, timeout=call.timeout)
    return {"name": name, "position": position}


async def move_cursor(call: Call) -> Reply:
    name, position = call.query["name"], call.body["position"]

    def begin() -> ReplyFuture[tuple[PushResult, ...]]:
        pushes = [
            callback_of(fields, f"body.pushes[{number}]")
            for number, fields in enumerate(call.body["pushes"])
        ]
        return call.app.callbacks.move_cursor(
            call.endpoint_id,
            name,
            position,
            expect=call.body.get("expect"),
            pushes=pushes,
            timeout=call.timeout,
        )

    secrets = await secrets_of(call)
    results = await (await off_loop(call, begin))

    def make() -> dict[str, Any]:
        pushed = [push_view(result, secrets) for result in results]
        return {"name": name, "position": position, "pushed": pushed}

    return Reply(make, size=weight(result.callback for result in results))


async def replay(call: Call) -> dict[str, Any]:
    body, left = call.body, threading.Event()
    keys = frozenset(body["keys"]) if "keys" in body else None

    def wanted(callback: Callback) -> bool:
        if left.is_set():
            raise ClientGone  # the way to stop one
        return keys is None or callback.id in keys

    more = {
        name: body[name] for name in ("since", "until", "into", "phase", "name") if name in body
    }
    running = call.app.callbacks.replay(
        call.endpoint_id, filter=wanted, dry_run=body["dry_run"], timeout=call.timeout, **more
    )
    try:
        result = await until_gone(call, running)
    finally:
        left.set()
    answer = {**result._asdict(), "ids": list(result.ids)}
    return {"name": running.name, "dry_run": body["dry_run"], **answer}


async def _ask(call: Call, message: Any) -> Any:
    mailbox = call.app.callbacks._mailbox(call.endpoint_id)
    return await mailbox.ask(message, call.timeout)


OPERATIONS = (
    Operation(
        id="list_past",
        method="GET",
        path=f"{_ENDPOINT}/past",
        summary="All callbacks, queued or kept, in the order of their pushes, a page at a time.",
        run=past,
        query={"cursor": s.CURSOR, "limit": s.LIMIT, "since": s.TIME, "until": s.TIME},
        replies={200: object_of({**_CALLBACKS, "next": s.NEXT}, "callbacks", "next")},
    ),
    Operation(
        id="list_records",
        method="GET",
        path=f"{_ENDPOINT}/records",
        summary="What has happened, oldest first; `next` goes on from here, also later.",
        run=records,
        query={
            "cursor": s.CURSOR,
            "after": s.POSITION,
            "kinds": array(s.KINDS, maxItems=20),
            "limit": s.LIMIT,
        },
        replies={
            200: object_of(
                {
                    "records": array(ref("Record")),
                    "next": {"type": "string"},
                    "position": {**s.COUNT, "description": "how far was read"},
                    "end": {**s.BOOLEAN, "description": "nothing more has happened so far"},
                },
                *("records", "next", "position", "end"),
            )
        },
    ),
    Operation(
        id="history",
        method="GET",
        path=f"{_CALLBACK}/history",
        summary="What has happened to a callback, oldest first.",
        run=history,
        query={"key": s.KEY},
        required=("key",),
        replies={200: object_of({"records": array(ref("Record"))}, "records")},
    ),
    Operation(
        id="children",
        method="GET",
        path=f"{_CALLBACK}/children",
        summary="The sub events of a callback; with deep=true also theirs, and so on.",
        run=children,
        query={"key": s.KEY, "deep": s.FLAG},
        required=("key",),
        replies={200: object_of(_CALLBACKS, "callbacks")},
    ),
    Operation(
        id="tree",
        method="GET",
        path=f"{_CALLBACK}/tree",
        summary="The whole event that a callback belongs to, each before its sub events.",
        run=tree,
        query={"key": s.KEY},
        required=("key",),
        replies={200: object_of(_CALLBACKS, "callbacks")},
    ),
    Operation(
        id="find_cursor",
        method="GET",
        path=f"{_ENDPOINT}/cursor",
        summary="Where a named cursor is; 0 for a name that is new.",
        run=cursor,
        query={"name": s.NAME},
        required=("name",),
        replies={200: object_of({"name": s.NAME, "position": s.COUNT}, "name", "position")},
    ),
    Operation(
        id="move_cursor",
        method="PUT",
        path=f"{_ENDPOINT}/cursor",
        summary="Move a named cursor and push callbacks: both, or neither.",
        run=move_cursor,
        query={"name": s.NAME},
        required=("name",),
        body=s.MOVE_CURSOR,
        replies={
            200: object_of(
                {"name": s.NAME, "position": s.COUNT, "pushed": array(ref("Pushed"))},
                *("name", "position", "pushed"),
            )
        },
        errors=(409,),
    ),
    Operation(
        id="replay",
        method="POST",
        path=f"{_ENDPOINT}/replay",
        summary="Push again what was received; it ends early if the client leaves.",
        run=replay,
        body=s.REPLAY,
        replies={200: ref("Replayed")},
    ),
)
