"""The handlers: looking at them, pausing them, having them go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pollin_actors.handlers import HandlerInfo
from pollin_actors.otp import ReplyFuture
from pollin_actors.web.admin_api import schemas as s
from pollin_actors.web.admin_api.problems import Kind, Problem
from pollin_actors.web.admin_api.schemas import array, object_of, ref
from pollin_actors.web.admin_api.table import Call, Operation
from pollin_actors.web.admin_api.views import handler_view

__all__ = ["OPERATIONS"]

_NOT_FOUND = Kind(404, "handler-not-found", "There is no such handler")


async def index(call: Call) -> dict[str, Any]:
    return {"handlers": [handler_view(info) for info in call.app.handlers]}


async def find(call: Call) -> dict[str, Any]:
    return handler_view(_find(call))


async def pause(call: Call) -> dict[str, Any]:
    return await _have(call, call.app.handlers.pause)


async def resume(call: Call) -> dict[str, Any]:
    return await _have(call, call.app.handlers.resume)


async def drain(call: Call) -> dict[str, Any]:
    return await _have(call, call.app.handlers.drain)


async def _have(call: Call, control: Callable[..., ReplyFuture[None]]) -> dict[str, Any]:
    name = _find(call).name
    await control(name, timeout=call.timeout)
    return handler_view(_find(call))


def _find(call: Call) -> HandlerInfo:
    name = call.query["name"]
    for info in call.app.handlers:
        if info.name == name:
            return info
    known = [info.name for info in call.app.handlers]
    raise Problem(_NOT_FOUND, "expected the name of a handler, got another", {"known": known})


def _control(name: str, summary: str, run: Any) -> Operation:
    return Operation(
        id=f"{name}_handler",
        method="POST",
        path=f"/handler/{name}",
        summary=summary,
        run=run,
        query={"name": s.NAME},
        required=("name",),
        replies={200: ref("Handler")},
        errors=(404,),
    )


OPERATIONS = (
    Operation(
        id="list_handlers",
        method="GET",
        path="/handlers",
        summary="All handlers of this process.",
        run=index,
        replies={200: object_of({"handlers": array(ref("Handler"))}, "handlers")},
    ),
    Operation(
        id="find_handler",
        method="GET",
        path="/handler",
        summary="A handler.",
        run=find,
        query={"name": s.NAME},
        required=("name",),
        replies={200: ref("Handler")},
        errors=(404,),
    ),
    _control("pause", "It takes no more; what it has begun goes on.", pause),
    _control("resume", "It goes on.", resume),
    _control("drain", "Pause it; answered once all that it had begun has ended.", drain),
)
