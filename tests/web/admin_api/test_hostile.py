"""Requests that nobody sends by mistake: each is refused with a reason, none is answered 500."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pollin_actors import Application
from pollin_actors.backends import values
from pollin_actors.settings import Settings
from pollin_actors.web.admin_api import views
from pollin_actors.web.admin_api.service import OPERATIONS
from tests.web.admin_api.api import NDJSON, Api, Exchange, orders

JSON = {"content-type": "application/json"}

MALFORMED = [
    b"",
    b"{",
    b"{}x",
    b"[" * 100_000,
    b'{"value":' + b"[" * 70 + b"]" * 70 + b"}",
    b'{"value":' * 70 + b"1" + b"}" * 70,
    b'{"value":NaN}',
    b'{"value":-Infinity}',
    b'{"value":1e999}',
    b'{"value":' + b"9" * 5_000 + b"}",
    b'{"value":"\\ud800"}',
    b'{"\\udfff":1}',
    b'{"id":"1","id":"2"}',
    b'{"value":{"a":{"b":1,"b":1}}}',
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b'{"id":"\xff"}',
    b"{'id':'1'}",
    b'{"id":"1",}',
    b"\x00",
]

# As many names as go into the largest body that is read on the event loop, and many more.
TWICE = [
    b"{" + b",".join(b'"%x":1' % number for number in [*range(names), names - 1]) + b"}"
    for names in (1_500, 25_000, 100_000)
]

INVALID: list[tuple[Any, str]] = [
    ([], "body"),
    ("text", "body"),
    (None, "body"),
    (1, "body"),
    ({"unknown": 1}, "body"),
    ({"id": 1}, "body.id"),
    ({"id": None}, "body.id"),
    ({"id": ""}, "body.id"),
    ({"id": "x" * 501}, "body.id"),
    ({"id": "a\0b"}, "body.id"),
    ({"not_before": -1}, "body.not_before"),
    ({"not_before": 1 << 63}, "body.not_before"),
    ({"not_before": 10**4_000}, "body.not_before"),
    ({"not_before": 1.5}, "body.not_before"),
    ({"not_before": True}, "body.not_before"),
    ({"not_before": "1"}, "body.not_before"),
    ({"headers": {}}, "body.headers"),
    ({"headers": ["ab"]}, "body.headers[0]"),
    ({"headers": [["a"]]}, "body.headers[0]"),
    ({"headers": [["a", "b", "c"]]}, "body.headers[0]"),
    ({"headers": [["a", 1]]}, "body.headers[0][1]"),
    ({"body": []}, "body.body"),
    ({"body": "a", "body_base64": "YQ=="}, "body"),
    ({"body": "a", "value": 1}, "body"),
    ({"headers": [], "value": 1}, "body"),
    ({"body_base64": "a"}, "body.body_base64"),
    ({"body_base64": "größe"}, "body.body_base64"),
    ({"value": {"$": 1}}, "body.value"),
    ({"value": {"$": ["bytes", "?"]}}, "body.value"),
    ({"value": {"$": ["dict", [[[], 1]]]}}, "body.value"),
    ({"value": {"$": ["float", {}]}}, "body.value"),
    ({"value": {"$": ["float", 10**399]}}, "body.value"),
    ({"value": {"$": ["float", "1_0"]}}, "body.value"),
    ({"value": {"$": ["float", True]}}, "body.value"),
    ({"value": {"$": ["tuple", "ab"]}}, "body.value"),
    ({"value": [{"$": {"float": 1, "nan": 2}}]}, "body.value"),
    ({"value": {"$": ["tuple", 1]}}, "body.value"),
    ({"value": {"$": ["other", 1]}}, "body.value"),
]


@pytest.mark.parametrize("raw", MALFORMED, ids=lambda raw: repr(raw[:20]))
def test_what_is_no_json_to_all(memory: Application, raw: bytes) -> None:
    """Deep nesting, numbers that are none, names twice, half characters, other encodings."""
    api = Api(memory)
    answer = api.request("POST", "/claims/ack", content=raw, headers=JSON)
    api.problem(answer, 400, "malformed")
    pushed = api.request("POST", "/callbacks", content=raw or b" ", headers=JSON)
    api.problem(pushed, 400, "malformed")
    assert memory.callbacks.count("orders").get() == 0


@pytest.mark.parametrize("raw", TWICE, ids=len)
def test_a_name_twice_among_very_many(memory: Application, raw: bytes) -> None:
    """To find it takes time in proportion to the body: 250 KB once took eleven seconds."""
    begun = time.process_time()
    answer = Api(memory).request("POST", "/callbacks", content=raw, headers=JSON)
    assert time.process_time() - begun < 3.0
    assert "again" in Api(memory).problem(answer, 400, "malformed")["detail"]


@pytest.mark.parametrize("path", ["/callbacks", "/cursor?name=n"])
@pytest.mark.parametrize(("items", "on_loop"), [(10, True), (500_000, False)])
def test_large_values_are_not_read_on_the_event_loop(
    api: Api, monkeypatch: pytest.MonkeyPatch, path: str, items: int, on_loop: bool
) -> None:
    """Nor made ready for the store: others are answered meanwhile."""
    threads: dict[str, set[int]] = {"untagged": set(), "tagged": set()}

    def watched(name: str, function: Any) -> Any:
        def call(value: Any, *depth: int) -> Any:
            threads[name].add(threading.get_ident())
            return function(value, *depth)

        return call

    monkeypatch.setattr(views, "untagged", watched("untagged", values.untagged))
    monkeypatch.setattr(values, "tagged", watched("tagged", values.tagged))
    pushed = {"value": [1] * items}
    if path == "/callbacks":
        answer = api.request("POST", path, json=pushed)
        assert answer.status_code == 201
    else:
        answer = api.request("PUT", path, json={"position": 0, "pushes": [pushed]})
        assert answer.status_code == 200
    assert api.app.callbacks.count("orders").get() == 1
    assert threads["untagged"]
    assert (threading.get_ident() in threads["untagged"] | threads["tagged"]) is on_loop


@pytest.mark.parametrize(("body", "field"), INVALID, ids=lambda value: ascii(value)[:30])
def test_wrong_values_are_named(memory: Application, body: Any, field: str) -> None:
    """The answer names the field, what was expected and what came, and nothing is stored."""
    api = Api(memory)
    answer = api.request("POST", "/callbacks", content=json.dumps(body), headers=JSON)
    problem = api.problem(answer, 422, "invalid-value")
    assert problem["field"] == field
    assert problem["expected"]
    assert problem["got"]
    assert memory.callbacks.count("orders").get() == 0
    moved = {"position": 0, "pushes": [{}, body]}
    answer = api.request("PUT", "/cursor?name=n", content=json.dumps(moved), headers=JSON)
    problem = api.problem(answer, 422, "invalid-value")
    assert problem["field"] == field.replace("body", "body.pushes[1]", 1)
    assert memory.callbacks.count("orders").get() == 0


@pytest.mark.parametrize("secret", ["", "x", "1234567", "12345678\n", " 12345678", "1234\x005678"])
def test_secrets_that_are_none(memory: Application, secret: str) -> None:
    """One that is short could be guessed, and one that no header can show would refuse all. The
    answer shows none, and the present one goes on being valid."""
    api, before = Api(memory), memory.endpoints.index().get()
    for method, path, more in (
        ("POST", "//endpoints", {"id": "new"}),
        ("PATCH", "", {}),
        ("PUT", "", {"phases": ["received"]}),
        ("POST", "/rotate", {}),
    ):
        answer = api.request(method, path, json={**more, "secret": secret})
        problem = api.problem(answer, 422, "invalid-value")
        assert "secret" in problem["field"]
        assert secret.strip() in ("", "x") or secret.strip() not in answer.text
    assert memory.endpoints.index().get() == before


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "query.limit"),
        ("limit=1001", "query.limit"),
        ("limit=", "query.limit"),
        ("limit=\u0661", "query.limit"),
        ("limit=1_0", "query.limit"),
        ("limit=+1", "query.limit"),
        ("limit=1&limit=2", "query.limit"),
        ("limit=" + "9" * 5_000, "query.limit"),
        ("offset=-1", "query.offset"),
        ("phase=", "query.phase"),
        ("phase=" + "x" * 101, "query.phase"),
        ("phase=a%00b", "query.phase"),
        ("other=1", "query"),
    ],
)
def test_wrong_parameters_are_named(memory: Application, query: str, field: str) -> None:
    """As those in bodies are."""
    api = Api(memory)
    answer = api.request("GET", f"/callbacks/slice?{query}")
    assert api.problem(answer, 422, "invalid-value")["field"] == field


@pytest.mark.parametrize("query", [b"phase=%ff", b"phase=\xff", b"&".join([b"phase=a"] * 3_000)])
def test_queries_that_are_no_text(memory: Application, query: bytes) -> None:
    """Nothing is guessed: another key than was meant could be the one of another callback."""
    answered = exchange(memory, Exchange("GET", "/endpoints/orders/callbacks/count", query=query))
    assert answered.sent[0]["status"] == 400


@pytest.mark.parametrize(
    "cursor", ["AAAA", "bnVsbA", "W10", "WyJxdWV1ZSJd", "WyJxdWV1ZSIsLTFd", "WyJwYXN0IiwxXQ", "A"]
)
def test_cursors_of_nothing(memory: Application, cursor: str) -> None:
    """One that no page has answered, or that is of another list, is refused."""
    api = Api(memory)
    answer = api.request("GET", "/callbacks", params={"cursor": cursor})
    assert api.problem(answer, 422, "invalid-value")["field"] == "query.cursor"


@pytest.mark.parametrize(
    "path", ["/endpoints/" + "x" * 201, "/endpoints/a\nb", "/endpoints/\ufffd\x00", "/endpoints/ "]
)
def test_ids_that_no_endpoint_can_have(memory: Application, path: str) -> None:
    """They do not get as far as the actors."""
    assert exchange(memory, Exchange("GET", path)).sent[0]["status"] == 404


@pytest.mark.parametrize("path", ["//", "//endpoints/", "//endpoints/orders/x", "//endpoints/a/b"])
def test_there_is_no_such_route(memory: Application, path: str) -> None:
    """And no redirect to one that is nearly the same."""
    api = Api(memory)
    api.problem(api.request("GET", path), 404, "not-found")


def test_methods(memory: Application) -> None:
    """The ones that there are are told."""
    api = Api(memory)
    answer = api.request("TRACE", "/callbacks")
    api.problem(answer, 405, "wrong-method")
    assert answer.headers["allow"] == "GET, POST"


@pytest.mark.parametrize("given", [None, "text/plain", "application/jsonx", "", "json"])
def test_other_types(memory: Application, given: str | None) -> None:
    """What a page of another site could send without asking is not taken for JSON."""
    api = Api(memory)
    headers = {} if given is None else {"content-type": given}
    for path in ("/callbacks", "/claims/ack"):
        answer = api.request("POST", path, content=b"{}", headers=headers)
        api.problem(answer, 415, "wrong-type")
    loaded = api.request("POST", "//load", content=b"{}", headers=headers)
    api.problem(loaded, 415, "wrong-type")


LENGTHS = [b"99999999", b"9" * 5_000, None, b"-1", b"x", "\u0661".encode()]


@pytest.mark.parametrize("length", LENGTHS)
def test_bodies_that_are_too_large(length: bytes | None) -> None:
    """Also where Content-Length is not there, or lies."""
    with Application(endpoints=[orders()], settings=Settings(max_bytes=1_000)) as app:
        sent = Exchange("POST", "/endpoints/orders/callbacks")
        if length is not None:
            sent.scope["headers"].append((b"content-length", length))
        for _ in range(10):
            sent.arrive(b" " * 10_000, more=True)
        assert exchange(app, sent).sent[0]["status"] == 413


def test_a_callback_that_is_too_large() -> None:
    """As large as may be, any bytes, is taken; a byte more is not."""
    with Application(endpoints=[orders()], settings=Settings(max_bytes=1_000_000)) as app:
        api = Api(app)
        size = 1_000_000 // 3 * 3
        assert api.push(body_base64="AAAA" * (size // 3))["callback"]["size"] == size
        answer = api.request("POST", "/callbacks", json={"body": "x" * 1_000_001})
        assert api.problem(answer, 413, "too-large")["limit"] == 1_000_000


def test_who_leaves_in_the_middle(memory: Application) -> None:
    """Nothing is stored, nobody is answered."""
    sent = Exchange("POST", "/endpoints/orders/callbacks")
    sent.arrive(b'{"id":', more=True)
    sent.leave()
    assert exchange(memory, sent).sent == []
    assert memory.callbacks.count("orders").get() == 0


MARKS = ["float", "text", "bytes", "tuple", "dict", "other"]
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([10**399, "nan", "YQ=="]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner)
        | st.tuples(st.sampled_from(MARKS), inner).map(lambda mark: {"$": list(mark)})
    ),
    max_leaves=8,
)
NAMES = sorted({name for op in OPERATIONS for name in (op.body or {}).get("properties", ())})
BODIES = st.dictionaries(st.sampled_from([n for n in NAMES if n != "wait"]), JSON_VALUES)
WITH_BODY = [op for op in OPERATIONS if op.body is not None and not op.streams]


@pytest.fixture(scope="module")
def shared() -> Any:
    with Application(endpoints=[orders()]) as app:
        yield Api(app)


@pytest.mark.parametrize("operation", WITH_BODY, ids=lambda operation: operation.id)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=BODIES, text=st.text(max_size=5))
def test_whatever_is_in_a_body(shared: Api, operation: Any, body: Any, text: str) -> None:
    """The right names with any values: never 500."""
    path = operation.path.replace("{endpoint_id}", "orders")
    query = dict.fromkeys(operation.required, text)
    raw = json.dumps(body, ensure_ascii=True)
    answer = shared.request(operation.method, f"/{path}", content=raw, params=query, headers=JSON)
    assert answer.status_code in {*operation.replies, 400, 404, 409, 413, 422, 503}, answer.text


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=JSON_VALUES)
@example(value={"$": ["float", 10**399]})
def test_whatever_is_a_value(shared: Api, value: Any) -> None:
    """In a push, in a push with a cursor, in a dump: it is taken or refused, never 500."""
    raw = json.dumps({"value": value})
    if "NaN" in raw or "Infinity" in raw:
        return
    pushed = shared.request("POST", "/callbacks", content=raw, headers=JSON)
    moved = f'{{"position":0,"pushes":[{raw}]}}'
    cursor = shared.request("PUT", "/cursor?name=n", content=moved, headers=JSON)
    fields = {"endpoint": "orders", "id": "1", "phase": "", "created_at": 1, "value": value}
    lines = HEADER + json.dumps({"callback": fields}).encode() + b"\n"
    end = b'{"end":{"endpoints":0,"callbacks":1}}'
    loaded = shared.request("POST", "//load", content=lines + end, headers=NDJSON)
    statuses = (pushed.status_code, cursor.status_code, loaded.status_code)
    # One that is nested too deeply, or has half a surrogate pair, is no JSON to all.
    assert statuses in {(201, 200, 200), (422, 422, 422), (400, 400, 200), (400, 400, 422)}


HEADER = b'{"pollin":"dump","version":1}\n'


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[" * 100_000,
        b'{"endpoint":1}',
        b'{"endpoint":{"id":[]}}',
        b'{"callback":{}}',
        b'{"callback":{"endpoint":[],"id":"1","phase":"","created_at":1,"value":1}}',
        b'{"callback":{"endpoint":1,"id":"1","phase":"","created_at":1,"value":1}}',
        b'{"callback":{"endpoint":"orders","id":"1","phase":"","created_at":NaN,"value":1}}',
        b'{"callback":{"endpoint":"orders","id":"1","phase":"","created_at":1,"headers":1}}',
        b'{"callback":{"endpoint":"orders","id":"1","phase":"","created_at":1,"headers":[],'
        b'"body":"\\ud800"}}',
        b'{"end":[]}',
        b"\xff\xfe",
        b'{"other":1}',
    ],
    ids=lambda line: repr(line[:30]),
)
def test_dumps_that_are_none(memory: Application, line: bytes) -> None:
    """The line is named."""
    api = Api(memory)
    answer = api.request("POST", "//load", content=HEADER + line, headers=NDJSON)
    problem = api.problem(answer, 422, "invalid-value")
    assert "dump" in problem["detail"]


def test_a_line_of_a_dump_without_end() -> None:
    """It is refused before it has taken all memory."""
    with Application(settings=Settings(max_bytes=1_000)) as app:
        sent = Exchange("POST", "/load", content_type=b"application/x-ndjson")
        sent.arrive(HEADER, more=True)
        for _ in range(10):
            sent.arrive(b"x" * 50_000, more=True)
        assert exchange(app, sent).sent[0]["status"] == 413
        assert not sent.arriving.empty()


def exchange(app: Application, sent: Exchange) -> Exchange:
    service = Api(app).service
    asyncio.run(service(sent.scope, sent.receive, sent.send))
    return sent
