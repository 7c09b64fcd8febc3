"""The operations on endpoints."""

from __future__ import annotations

import contextlib
from heapq import nsmallest
from typing import Any

from pollin_actors.errors import EndpointConflict, EndpointNotFound
from pollin_actors.resources import Endpoint, Intake
from pollin_actors.secret import Secret
from pollin_actors.web.admin_api import schemas as s
from pollin_actors.web.admin_api.cursors import read_cursor, write_cursor
from pollin_actors.web.admin_api.schemas import array, object_of, ref
from pollin_actors.web.admin_api.table import Call, Operation, Reply
from pollin_actors.web.admin_api.views import endpoint_view, intake_of

__all__ = ["OPERATIONS"]

# A change is tried so often: each time somebody else was quicker.
TRIES = 5

_ONE = "/endpoints/{endpoint_id}"


async def index(call: Call) -> Reply:
    cursor, limit = call.query.get("cursor"), call.query["limit"]
    after = () if cursor is None else tuple(read_cursor(cursor, "endpoints", int, str))
    endpoints = await call.app.endpoints.index(timeout=call.timeout)

    def make() -> dict[str, Any]:
        # By an order of their own, so that pages fit together whatever is created meanwhile.
        left = [endpoint for endpoint in endpoints if _place(endpoint) > after]
        page = nsmallest(limit, left, key=_place)
        following = write_cursor("endpoints", *_place(page[-1])) if len(left) > limit else None
        return {"endpoints": [endpoint_view(endpoint) for endpoint in page], "next": following}

    return Reply(make, size=len(endpoints) * 512)


def _place(endpoint: Endpoint) -> tuple[Any, ...]:
    return (endpoint.created_at, endpoint.id)


async def find(call: Call) -> dict[str, Any]:
    return endpoint_view(await _find(call))


async def create(call: Call) -> Reply:
    fields = _settings(call.body)
    made = Endpoint.new(id=call.body.get("id"), secret=call.body.get("secret"), **fields)
    endpoint = await call.app.endpoints.create(made, timeout=call.timeout)
    return _with_secret(endpoint, generated="secret" not in call.body)


async def replace(call: Call) -> dict[str, Any]:
    fields = {"intake": Intake(), **_settings(call.body)}
    return await _update(call, fields)


async def change(call: Call) -> dict[str, Any]:
    return await _update(call, _settings(call.body, into=True))


async def delete(call: Call) -> Reply:
    existed = await call.app.endpoints.delete(call.endpoint_id, timeout=call.timeout)
    if not existed:
        raise EndpointNotFound(call.endpoint_id)
    return Reply()


async def rotate(call: Call) -> Reply:
    given, overlap = call.body.get("secret"), call.body["overlap"]
    secret = None if given is None else Secret(given)
    endpoint = await call.app.endpoints.rotate(
        call.endpoint_id, secret=secret, overlap=overlap, timeout=call.timeout
    )
    return _with_secret(endpoint, generated=given is None)


async def stats(call: Call) -> dict[str, Any]:
    found = await call.app.callbacks.stats(call.endpoint_id, timeout=call.timeout)
    return found._asdict()


async def reset(call: Call) -> dict[str, Any]:
    removed = await call.app.callbacks.reset(call.endpoint_id, timeout=call.timeout)
    return {"removed": removed}


async def ready(call: Call) -> dict[str, Any]:
    await call.app.ready(timeout=call.timeout)
    return {"status": "ok"}


async def _find(call: Call) -> Endpoint:
    endpoint = await call.app.endpoints.find(call.endpoint_id, timeout=call.timeout)
    if endpoint is None:
        raise EndpointNotFound(call.endpoint_id)
    return endpoint


async def _update(call: Call, changes: dict[str, Any]) -> dict[str, Any]:
    for _ in range(TRIES):
        stored = await _find(call)
        wanted = dict(changes)
        if isinstance(wanted.get("intake"), dict):
            wanted["intake"] = intake_of({**stored.intake.as_fields(), **wanted["intake"]})
        if "secret" in call.body:
            # At once: whoever wants both to be valid for a while rotates.
            now = call.app.runtime.clock.time_ns()
            stored_anew = stored.rotated(Secret(call.body["secret"]), now, now)
            changed = stored_anew.replace(**wanted)
        else:
            changed = stored.replace(**wanted)
        # Nothing is written back that somebody else has changed meanwhile, such as a secret.
        with contextlib.suppress(EndpointConflict):
            return endpoint_view(
                await call.app.endpoints.update(changed, expect=stored, timeout=call.timeout)
            )
    raise EndpointConflict(call.endpoint_id)


def _settings(body: dict[str, Any], into: bool = False) -> dict[str, Any]:
    """The fields that a body gives; with ``into`` those of the intake go into what is stored."""
    fields = {name: value for name, value in body.items() if name not in ("id", "secret")}
    if "intake" in fields and not into:
        fields["intake"] = intake_of(fields["intake"])
    return fields


def _with_secret(endpoint: Endpoint, generated: bool) -> Reply:
    answer: dict[str, Any] = {"endpoint": endpoint_view(endpoint)}
    if generated:
        answer["secret"] = endpoint.secret.reveal()
    return Reply(answer)


OPERATIONS = (
    Operation(
        id="list_endpoints",
        method="GET",
        path="/endpoints",
        summary="The endpoints, in the order of created_at and id.",
        run=index,
        query={"cursor": s.CURSOR, "limit": s.LIMIT},
        replies={200: object_of({"endpoints": array(ref("Endpoint")), "next": s.NEXT}, "next")},
    ),
    Operation(
        id="create_endpoint",
        method="POST",
        path="/endpoints",
        summary="Create an endpoint; a secret that is generated is shown here, and never again.",
        run=create,
        body=s.NEW_ENDPOINT,
        replies={201: ref("EndpointAndSecret")},
        errors=(409,),
    ),
    Operation(
        id="find_endpoint",
        method="GET",
        path=_ONE,
        summary="An endpoint.",
        run=find,
        replies={200: ref("Endpoint")},
    ),
    Operation(
        id="replace_endpoint",
        method="PUT",
        path=_ONE,
        summary="Replace all settings; what is left out is as by default, but for the secret.",
        run=replace,
        body=s.WHOLE_ENDPOINT,
        replies={200: ref("Endpoint")},
        errors=(409,),
    ),
    Operation(
        id="change_endpoint",
        method="PATCH",
        path=_ONE,
        summary="Change the settings that are given.",
        run=change,
        body=s.CHANGED_ENDPOINT,
        replies={200: ref("Endpoint")},
        errors=(409,),
    ),
    Operation(
        id="delete_endpoint",
        method="DELETE",
        path=_ONE,
        summary="Remove an endpoint, its callbacks and its memory of ids.",
        run=delete,
        replies={204: None},
    ),
    Operation(
        id="rotate_secret",
        method="POST",
        path=f"{_ONE}/rotate",
        summary="Give an endpoint another secret; the present one is valid for a while yet.",
        run=rotate,
        body=s.ROTATION,
        replies={200: ref("EndpointAndSecret")},
    ),
    Operation(
        id="stats",
        method="GET",
        path=f"{_ONE}/stats",
        summary="How an endpoint stands.",
        run=stats,
        replies={200: ref("Stats")},
    ),
    Operation(
        id="reset",
        method="POST",
        path=f"{_ONE}/reset",
        summary="Remove all callbacks, the memory of ids, cursors and history.",
        run=reset,
        replies={200: object_of({"removed": s.COUNT}, "removed")},
    ),
    Operation(
        id="ready",
        method="GET",
        path="/ready",
        summary="Whether the backend could store something now.",
        run=ready,
        replies={200: object_of({"status": {"type": "string", "enum": ["ok"]}}, "status")},
    ),
)
