"""The supervision tree: who runs, who was restarted, who crashed and on what."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from heapq import nsmallest
from typing import Any

from pollin_actors.errors import InvalidValue
from pollin_actors.otp import TreeNode
from pollin_actors.web.actors import Place, places, text_of, totals
from pollin_actors.web.admin_api import schemas as s
from pollin_actors.web.admin_api.cursors import read_cursor, write_cursor
from pollin_actors.web.admin_api.schemas import array, object_of, ref, whole
from pollin_actors.web.admin_api.table import Call, Operation
from pollin_actors.web.crashes import Crashes, redact

__all__ = ["OPERATIONS"]

# The place in a tree is as long as the ids in it are.
_CURSOR = {**s.CURSOR, "maxLength": 32_000}
_CHILDREN = s.integer(
    0,
    s.MAX_LIMIT,
    description="of each supervisor at most so many, those first that do not run or have crashed",
)


async def actors(call: Call) -> dict[str, Any]:
    query = call.query
    after = _read_path(query.get("cursor"))
    root = await call.app.tree(timeout=call.timeout)
    # There may be a hundred thousand of them.
    return await asyncio.to_thread(_page, root, after, query["limit"], query.get("children"))


async def crashes(call: Call) -> dict[str, Any]:
    found = call.app.companion(Crashes).newest_first()
    return {"crashes": [{**crash._asdict(), "frames": list(crash.frames)} for crash in found]}


def _page(
    root: TreeNode, after: tuple[str, ...], limit: int, children: int | None
) -> dict[str, Any]:
    def behind() -> Iterator[Place]:
        return (place for place in places(root, children) if place.path > after)

    # One more than is asked for, to know whether there is another page. By their paths: the order
    # of their starts would change between two pages.
    found = nsmallest(limit + 1, behind(), key=lambda place: place.path)
    following = None
    if len(found) > limit:
        found = found[:limit]
        following = write_cursor("actors", list(found[-1].path))
    return {
        "actors": [_view(place) for place in found],
        "total": totals(root)._asdict(),
        "next": following,
    }


def _view(place: Place) -> dict[str, Any]:
    node, crash = place.node, place.node.last_crash
    return {
        "path": list(place.path),
        "type": node.type,
        "actor": node.actor,
        "name": None if node.name is None else text_of(node.name),
        "state": node.state.value,
        "generation": node.generation,
        "restarts": node.restarts,
        "mailbox": node.mailbox,
        "uptime": None if node.uptime is None else max(0.0, node.uptime),
        "strategy": node.strategy,
        "unstopped": node.unstopped,
        "left": place.left,
        "last_crash": None
        if crash is None
        else {"at": crash.at, "error": redact(crash.error), "message": crash.message},
    }


def _read_path(cursor: str | None) -> tuple[str, ...]:
    if cursor is None:
        return ()
    [path] = read_cursor(cursor, "actors", list)
    if not all(isinstance(label, str) for label in path):
        expected = "`next` of an earlier page of the same list"
        raise InvalidValue("query.cursor", expected, "something else", "begin without a cursor")
    return tuple(path)


OPERATIONS = (
    Operation(
        id="list_actors",
        method="GET",
        path="/actors",
        summary="The supervision tree of this process, flat, in the order of paths, in pages.",
        run=actors,
        query={"cursor": _CURSOR, "limit": s.LIMIT, "children": _CHILDREN},
        replies={
            200: object_of(
                {
                    "actors": array(ref("Actor")),
                    "total": whole(dict.fromkeys(("actors", "restarts", "mailbox"), s.COUNT)),
                    "next": s.NEXT,
                },
                *("actors", "total", "next"),
            )
        },
    ),
    Operation(
        id="list_crashes",
        method="GET",
        path="/crashes",
        summary="The last crashes of actors of this process, newest first, without secrets.",
        run=crashes,
        replies={200: object_of({"crashes": array(ref("Crash"))}, "crashes")},
    ),
)
