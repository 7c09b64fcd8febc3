"""The receiver, whatever comes: it never fails, and what it acknowledges is what it stores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from pollin_actors import Application, Outcome
from pollin_actors.web import asgi
from tests.web.calls import SECRET, Exchange, endpoint, queued

LIMIT = 64
STATUSES = {200, 400, 401, 404, 405, 413}

methods = st.sampled_from(["POST", "POST", "POST", "GET", "HEAD", "PUT"]) | st.text(max_size=8)

raw_paths = st.sampled_from(
    [b"/orders", b"/orders", b"/o%72ders", b"/orders/", b"/healthz", b"/%", b"/%FF", b"/%2Forders"]
) | st.binary(max_size=20).map(lambda path: b"/" + path)

secrets = st.sampled_from([SECRET.encode(), b"", b"wrong", b"\xff"])
names = st.sampled_from(
    [b"authorization", b"Authorization", b"x-pollin-secret", b"content-length", b"x-tag"]
) | st.binary(max_size=20)
values = st.one_of(
    st.binary(max_size=20),
    secrets,
    secrets.map(lambda secret: b"Bearer " + secret),
    st.integers(-2, 100).map(lambda number: b"%d" % number),
)
any_headers = st.lists(st.tuples(names, values), max_size=6)
shown = st.sampled_from([(b"x-pollin-secret", SECRET.encode())])
headers = any_headers | st.tuples(shown, any_headers).map(lambda parts: [parts[0], *parts[1]])

chunkings = st.lists(st.binary(max_size=LIMIT // 2 + 2), max_size=4)


def decoded(raw: bytes, strict: bool) -> str:
    """A path as servers decode it: what is not UTF-8 is replaced, or escapes as surrogates."""
    return unquote_to_bytes(raw).decode("utf-8", "replace" if strict else "surrogateescape")


def carriers(headers: list[tuple[bytes, bytes]]) -> set[bytes]:
    """Names of headers in which something is shown as a secret: they are hidden as a whole."""
    bearers = {
        name.lower()
        for name, value in headers
        if name.lower() == b"authorization" and value[:7].lower() == b"bearer "
    }
    return {b"x-pollin-secret", *bearers}


@pytest.fixture(scope="module")
def app() -> Iterator[Application]:
    with Application(endpoints=[endpoint()]) as running:
        yield running


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    method=methods,
    raw_path=raw_paths,
    strict=st.booleans(),
    root_path=st.sampled_from(["", "", "/hooks", "/orders"]),
    headers=headers,
    chunks=chunkings,
    gone=st.booleans() | st.just(False),
)
def test_what_is_acknowledged_is_stored_and_nothing_else(
    app: Application,
    runner: asyncio.Runner,
    method: str,
    raw_path: bytes,
    strict: bool,
    root_path: str,
    headers: list[tuple[bytes, bytes]],
    chunks: list[bytes],
    gone: bool,
) -> None:
    """No exception escapes and no status is unknown. After 200 the queue holds exactly that
    request, under the id answered; after anything else it holds nothing."""
    app.callbacks.reset("orders").get()
    request = Exchange(
        decoded(raw_path, strict),
        headers,
        chunks or [b""],
        method=method,
        root_path=root_path,
        gone=gone,
    )
    told: list[str] = []
    receiver = asgi(
        app,
        max_bytes=LIMIT,
        timeout=60.0,
        on_received=lambda endpoint_id, result: told.append(result.callback.id),
    )

    runner.run(request.through(receiver))

    event(f"status {request.status}")
    stored = queued(app)
    body = b"".join(chunks)
    if request.status is None:
        assert gone
    else:
        assert request.status in STATUSES
        assert request.body == b"" or request.json
        assert (request.body == b"") == (method == "HEAD")
    if request.status != 200 or decoded(raw_path, strict).endswith("/healthz"):
        assert (stored, told) == ([], [])
        return
    [callback] = stored
    assert told == [callback.id]
    assert json.loads(request.body) == {"id": callback.id, "outcome": Outcome.QUEUED}
    assert callback.request.body == body
    assert len(body) <= LIMIT
    assert len(callback.request.headers) == len(headers)
    for (name, value), (given_name, given_value) in zip(
        callback.request.headers, headers, strict=True
    ):
        assert name.encode("latin-1") == given_name
        hidden = given_name.lower() in carriers(headers)
        assert value.encode("latin-1") == (b"**********" if hidden else given_value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=st.binary(max_size=LIMIT), cuts=st.lists(st.integers(0, LIMIT), max_size=6))
def test_however_a_body_is_cut_it_is_the_same_body(
    app: Application, runner: asyncio.Runner, body: bytes, cuts: list[int]
) -> None:
    """Any body within the limit, in any pieces, is stored byte for byte."""
    app.callbacks.reset("orders").get()
    places = [0, *sorted(cuts), len(body)]
    chunks = [body[start:end] for start, end in pairwise(places)]
    request = Exchange(headers=[(b"x-pollin-secret", SECRET.encode())], chunks=chunks)

    runner.run(request.through(asgi(app, max_bytes=LIMIT, timeout=60.0)))

    assert request.status == 200
    assert [callback.request.body for callback in queued(app)] == [body]
