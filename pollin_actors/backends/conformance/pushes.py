"""Checks of pushing: what is refused, what is kept."""

from __future__ import annotations

from typing import Any

from pollin_actors.backends.conformance.probe import (
    Check,
    NewStore,
    Probe,
    expect,
    refuses,
)
from pollin_actors.errors import UnknownPhase, WrongSecret
from pollin_actors.messages import (
    Fetch,
    Pop,
    Push,
)
from pollin_actors.resources import Callback, Outcome, PushResult, Request, Secret

__all__ = ["CHECKS"]


def pushes_are_appended(new_store: NewStore) -> None:
    """A push answers PushResult with the callback as it is stored; it goes to the end."""
    with Probe(new_store) as probe:
        callback = Callback.new(b"x", id="a")
        result = probe.do(Push("orders", callback, trusted=True))
        stored = callback.with_phase("received")
        expect(result, PushResult(stored, Outcome.QUEUED), "the reply")
        expect(type(result), PushResult, "its type")
        expect(probe.do(Fetch("orders", "a")), stored, "what is stored")
        probe.push("c", "b")
        probe.holds("a c b")


def phases_are_checked_at_the_push(new_store: NewStore) -> None:
    """A known phase is kept; an unknown one raises UnknownPhase, and nothing is stored."""
    with Probe(new_store) as probe:
        probe.push("a", phase="processed")
        expect(probe.do(Fetch("orders")).phase, "processed", "the phase")
        error = refuses(
            UnknownPhase, probe.do, Push("orders", Callback.new(b"", phase="gone"), trusted=True)
        )
        expect(error.known_phases, ("received", "processed"), "the phases that the error names")
        probe.holds("a")
        expect(probe.push("b"), ["queued"], "the outcome once the phase is right")


def secrets_are_checked_first(new_store: NewStore) -> None:
    """Unless trusted, a secret that is not the endpoint's raises WrongSecret, before all else."""
    with Probe(new_store) as probe:
        rights: tuple[Any, ...] = ("s", b"s", Secret("s"))
        for number, secret in enumerate(rights):
            push = Push("orders", Callback.new(b"x", id=str(number)), secret)
            expect(probe.do(push).outcome, Outcome.QUEUED, f"the outcome with {secret!r}")
        wrongs: tuple[Any, ...] = (None, "", "x", b"x", "ß", "\ud800", Secret("x"), 5)
        for wrong in wrongs:
            # One that is new, and one that is queued: a duplicate would be shown what is stored.
            for id in ("a", "0"):
                push = Push("orders", Callback.new(b"x", id=id, phase="gone"), wrong)
                refuses(WrongSecret, probe.do, push)
        probe.holds("0 1 2")


def requests_are_kept_exactly(new_store: NewStore) -> None:
    """Every byte of a body, and order, repeats and case of headers, come back as they went in."""
    headers = [("X-B", "2"), ("x-a", "1"), ("X-B", ""), ("", "ÿ\0\n☃\ud800"), ("x-a", "1")]
    with Probe(new_store) as probe:
        requests = [
            Request(headers, bytes(range(256)) * 5),
            Request(),
            Request([], b"\0" * 100_000),
        ]
        for number, request in enumerate(requests):
            callback = Callback("é'\"☃ " + str(number), request, "received", number)
            probe.do(Push("orders", callback, trusted=True))
            expect(probe.do(Fetch("orders", callback.id)), callback, "what is fetched")
            expect(probe.do(Pop("orders")), callback, "what is popped")


def other_values_are_kept(new_store: NewStore) -> None:
    """A request may be None, bytes, text, a number, or lists and dicts of them, and comes back."""
    values = (None, True, 7, -1.5, b"\0\xff", "", "ä\ud800\0", [1, [None, "x"]], {"a": [{}], "": 1})
    with Probe(new_store) as probe:
        for value in values:
            probe.do(Push("orders", Callback.new(value), trusted=True))
            got = probe.do(Pop("orders")).request
            expect(got, value, "the request")
            expect(type(got), type(value), "its type")


CHECKS: tuple[Check, ...] = (
    pushes_are_appended,
    phases_are_checked_at_the_push,
    secrets_are_checked_first,
    requests_are_kept_exactly,
    other_values_are_kept,
)
