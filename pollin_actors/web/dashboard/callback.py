"""One callback: what came, whether it is genuine, what has happened to it; and steering it."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import anyio.to_thread

from pollin_actors.errors import CallbackNotFound, InvalidValue
from pollin_actors.identifiers import uuid7
from pollin_actors.past import CallbackTree
from pollin_actors.resources import MAX_CALLBACK_ID, Callback, Endpoint, Request
from pollin_actors.web.admin_api.secrets_shown import secrets_at
from pollin_actors.web.dashboard.access import Role
from pollin_actors.web.dashboard.bodies import body_of, headers_of, show
from pollin_actors.web.dashboard.confirming import confirm
from pollin_actors.web.dashboard.curl import curl_of
from pollin_actors.web.dashboard.genuine import Verdict, verdict_of
from pollin_actors.web.dashboard.jobs import replayed
from pollin_actors.web.dashboard.places import is_quarantine
from pollin_actors.web.dashboard.visit import (
    Answer,
    Download,
    Operation,
    Page,
    Redirect,
    Visit,
    Watch,
)
from pollin_actors.web.quarantine import quarantine_of

__all__ = ["OPERATIONS"]

NODES = 100
"""Sub events that are shown."""
RECORDS = 200


class Node(NamedTuple):
    """One line of a tree of sub events."""

    callback: Callback
    depth: int


async def one(visit: Visit) -> Page:
    endpoint, callback, queued = await _find(visit)
    key = callback.id
    secrets = await secrets_at(visit.app, endpoint.id, visit.timeout)
    records, tree, verdict, body, headers, curl = await asyncio.gather(
        visit.app.callbacks.history(endpoint.id, key=key, timeout=visit.timeout),
        _tree(visit, endpoint.id, key),
        _verdict(visit, endpoint, callback),
        anyio.to_thread.run_sync(show, callback, visit.query.get("view", "")),
        anyio.to_thread.run_sync(headers_of, callback, secrets),
        anyio.to_thread.run_sync(curl_of, endpoint.id, callback, visit.shared.receiver, secrets),
    )
    nodes, left = tree
    context = {
        "endpoint": endpoint,
        "callback": callback,
        "queued": queued,
        "records": records[-RECORDS:],
        "earlier": max(len(records) - RECORDS, 0),
        "nodes": nodes,
        "nodes_left": left,
        "verdict": verdict,
        "body": body,
        "has_body": body_of(callback) is not None,
        "headers": headers,
        "curl": curl,
        "dead_phases": visit.app.handlers.dead_letters_of(endpoint.id),
    }
    return Page("callback.html", context, watch=Watch((endpoint.id,), every=10.0))


async def _find(visit: Visit) -> tuple[Endpoint, Callback, bool]:
    endpoint = await visit.endpoint(visit.needed("endpoint"))
    key = visit.needed("key")
    if len(key) > MAX_CALLBACK_ID:
        raise CallbackNotFound(endpoint.id, key[:MAX_CALLBACK_ID])
    callbacks = visit.app.callbacks
    found = await callbacks.fetch(endpoint.id, key=key, timeout=visit.timeout)
    queued = found is not None
    if found is None:
        found = await callbacks.fetch(endpoint.id, key=key, kept=True, timeout=visit.timeout)
    if found is None:
        raise CallbackNotFound(endpoint.id, key)
    return endpoint, found, queued


async def _tree(visit: Visit, endpoint_id: str, key: str) -> tuple[list[Node], int]:
    try:
        tree = await visit.app.callbacks.tree(endpoint_id, key=key, timeout=visit.timeout)
    except CallbackNotFound:
        return [], 0  # it has gone at this moment
    nodes: list[Node] = []
    waiting, left = [(tree, 0)], 0
    while waiting:
        found, depth = waiting.pop()
        if len(nodes) < NODES:
            nodes.append(Node(found.callback, depth))
        else:
            left += 1
        below: list[CallbackTree] = list(found.children)
        waiting.extend((child, depth + 1) for child in reversed(below))
    return (nodes, left) if len(nodes) > 1 else ([], 0)


async def _verdict(visit: Visit, endpoint: Endpoint, callback: Callback) -> Verdict | None:
    if not isinstance(callback.request, Request):
        return None
    # What waits to be verified is signed for the endpoint that it is for.
    signed_for, quarantined = endpoint, is_quarantine(endpoint)
    if quarantined:
        base = endpoint.id.removesuffix(quarantine_of(""))
        found = await visit.app.endpoints.find(base, timeout=visit.timeout)
        signed_for = endpoint if found is None else found
    return await anyio.to_thread.run_sync(verdict_of, signed_for, callback, quarantined)


async def download(visit: Visit) -> Answer:
    _, callback, _ = await _find(visit)
    raw = body_of(callback)
    if raw is None:
        raise InvalidValue("callback", "one whose request has a body", "another value")
    # A name of ours: what a sender calls it is not for file systems.
    return Download(raw, "body.bin")


async def move(visit: Visit) -> Answer:
    endpoint, callback, _ = await _find(visit)
    phase, expect = visit.needed("phase_to"), visit.form.get("expect") or None
    await visit.app.callbacks.update_phase(
        endpoint.id, key=callback.id, phase=phase, expect=expect, timeout=visit.timeout
    )
    return _back(endpoint, callback.id, "moved")


async def replay(visit: Visit) -> Answer:
    endpoint, callback, _ = await _find(visit)
    again = replayed(endpoint.id, callback, uuid7())
    result = await visit.app.callbacks.push(endpoint.id, again, timeout=visit.timeout)
    return _back(endpoint, result.callback.id, "replayed")


async def delete(visit: Visit) -> Answer:
    endpoint, callback, _ = await _find(visit)
    if not visit.form.get("confirmed"):
        return confirm(
            visit,
            "Delete this callback?",
            f"{callback.id} leaves the queue and is not handled. It is kept with its history for "
            "as long as the endpoint keeps what has left.",
            "Delete",
            back=("/callback",),
            query={"endpoint": endpoint.id, "key": callback.id},
        )
    await visit.app.callbacks.delete(endpoint.id, key=callback.id, timeout=visit.timeout)
    return Redirect("/callbacks", (), {"endpoint": endpoint.id, "done": "deleted"})


def _back(endpoint: Endpoint, key: str, done: str) -> Redirect:
    return Redirect("/callback", (), {"endpoint": endpoint.id, "key": key, "done": done})


OPERATIONS = (
    Operation("GET", "/callback", one),
    Operation("GET", "/callback/body", download),
    Operation("POST", "/callback/move", move, Role.WRITE),
    Operation("POST", "/callback/replay", replay, Role.WRITE),
    Operation("POST", "/callback/delete", delete, Role.WRITE),
)
