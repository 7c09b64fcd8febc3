"""Claiming callbacks over HTTP, and what becomes of the claims."""

from __future__ import annotations

from typing import Any

from pollin_actors.records import Claim
from pollin_actors.resources import Callback
from pollin_actors.web.admin_api import schemas as s
from pollin_actors.web.admin_api.schemas import array, object_of, ref
from pollin_actors.web.admin_api.secrets_shown import secrets_of
from pollin_actors.web.admin_api.table import Call, Operation, Reply, until_gone
from pollin_actors.web.admin_api.validation import Schema
from pollin_actors.web.admin_api.views import claim_view, weight

__all__ = ["OPERATIONS"]

_CLAIMS = "/endpoints/{endpoint_id}/claims"


async def claim(call: Call) -> Reply:
    body = call.body
    secrets = await secrets_of(call)
    reply = call.app.callbacks.claim(
        call.endpoint_id,
        phase=body.get("phase"),
        limit=body["limit"],
        lease=body["lease"],
        wait=body["wait"] or None,
        by=body["by"],
        timeout=call.timeout,
    )
    # Who leaves while waiting gets nothing: what is claimed for nobody is given back.
    claims: list[Claim] = await (until_gone(call, reply) if body["wait"] else reply)
    size = weight(claim.callback for claim in claims)
    return Reply(lambda: {"claims": [claim_view(claim, secrets) for claim in claims]}, size=size)


async def ack(call: Call) -> Reply:
    then = call.body.get("then")
    await call.app.callbacks.ack(_claim(call), then=then, timeout=call.timeout)
    return Reply()


async def nack(call: Call) -> Reply:
    body = call.body
    await call.app.callbacks.nack(
        _claim(call),
        retry_in=body["retry_in"],
        reason=body["reason"],
        dead_letter=body.get("dead_letter"),
        timeout=call.timeout,
    )
    return Reply()


async def extend(call: Call) -> dict[str, Any]:
    extended = await call.app.callbacks.extend(
        _claim(call), lease=call.body["lease"], timeout=call.timeout
    )
    return {"until": extended.until}


async def release(call: Call) -> Reply:
    await call.app.callbacks.release(_claim(call), timeout=call.timeout)
    return Reply()


async def discard(call: Call) -> Reply:
    reason = call.body["reason"]
    await call.app.callbacks.discard(_claim(call), reason, timeout=call.timeout)
    return Reply()


def _claim(call: Call) -> Claim:
    """The claim as far as it matters: its key and its token."""
    callback = Callback.new(None, id=call.body["key"])
    return Claim(call.endpoint_id, callback, call.body["token"], 0)


def _ending(name: str, summary: str, run: Any, body: Schema) -> Operation:
    """One of the operations that end a claim."""
    path = f"{_CLAIMS}/{name}"
    return Operation(name, "POST", path, summary, run, {204: None}, body=body, errors=(409,))


OPERATIONS = (
    Operation(
        id="claim",
        method="POST",
        path=_CLAIMS,
        summary="Take callbacks to work on: nobody else gets them while the lease holds.",
        run=claim,
        body=s.CLAIM,
        replies={200: object_of({"claims": array(ref("Claim"))}, "claims")},
    ),
    _ending("ack", "The work is done: into the phase `then`, or out of the queue.", ack, s.ACK),
    _ending("nack", "The work has failed: it is available again, or dead.", nack, s.NACK),
    _ending("release", "Give it back as if it had not been claimed.", release, s.RELEASE),
    _ending("discard", "There is nothing to be done: out of the queue.", discard, s.DISCARD),
    Operation(
        id="extend",
        method="POST",
        path=f"{_CLAIMS}/extend",
        summary="Let a claim hold for longer.",
        run=extend,
        body=s.EXTEND,
        replies={200: object_of({"until": s.STORED_TIME}, "until")},
        errors=(409,),
    ),
)
