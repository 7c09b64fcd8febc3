"""The quick way to a request is the same as the usual one, and remembers only so much."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pollin_actors import request as module
from pollin_actors.errors import InvalidValue
from pollin_actors.request import Request

NAMES = st.one_of(st.sampled_from([b"host", b"Host", b"x-event"]), st.binary(max_size=120))
PAIRS = st.lists(st.tuples(NAMES, st.binary(max_size=250)), max_size=6)
# What no server should hand over.
PARTS = st.one_of(st.binary(max_size=5), st.text(max_size=5), st.none(), st.integers(0, 3))
ODD = st.lists(
    st.one_of(st.tuples(PARTS, PARTS), st.lists(PARTS, max_size=3), st.tuples(PARTS), PARTS),
    max_size=4,
)
BODIES = st.one_of(st.binary(max_size=20), st.binary(max_size=20).map(bytearray), st.text())


def made(make: Any, headers: Any, body: Any) -> Any:
    """The request and its size, or that it is refused."""
    try:
        request = make(headers, body)
    except InvalidValue as error:
        return str(error)
    return request, request.size, type(request.body)


@given(PAIRS, st.binary(max_size=50))
def test_what_servers_hand_over_is_read_alike(
    headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """Whatever was remembered by then: order, repeats, case and every byte are kept."""
    request = Request.arrived(headers, body)
    assert made(Request.arrived, headers, body) == made(Request, tuple(headers), body)
    assert [(n.encode("latin-1"), v.encode("latin-1")) for n, v in request.headers] == headers


@given(ODD, BODIES)
def test_anything_else_is_read_or_refused_alike(headers: Any, body: Any) -> None:
    """With the same words."""
    assert made(Request.arrived, headers, body) == made(Request, headers, body)


def test_names_that_strangers_make_up_are_not_remembered_for_ever() -> None:
    """Neither many nor long ones."""
    long = b"x" * 101
    for number in range(3 * module._MOST_COMMON):
        Request.arrived([(b"x-%d" % number, b""), (long, b"")], b"")
        assert len(module._names) <= module._MOST_COMMON
    assert long not in module._names
