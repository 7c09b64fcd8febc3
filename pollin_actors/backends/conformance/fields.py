"""Checks of the fields of the messages about claims and history: what is refused, and how."""

from __future__ import annotations

from typing import Any

from pollin_actors.backends.conformance.probe import Check, NewStore, Probe, expect, refuses
from pollin_actors.errors import EndpointNotFound, InvalidValue
from pollin_actors.messages import (
    Ack,
    Children,
    ClaimSlice,
    Consume,
    Extend,
    FindCursor,
    History,
    HistoryPage,
    MoveCursor,
    Nack,
    PastPage,
    Release,
    Stats,
)
from pollin_actors.resources import MAX_DEDUP_FOR_S

__all__ = ["CHECKS"]

# No texts, no numbers of seconds, no texts that every backend can store.
_TEXTS: tuple[Any, ...] = (5, b"a", [], None)
_SECONDS: tuple[Any, ...] = (-1, -0.5, True, "1", None, float("nan"), float("inf"), 1e300)
_NOTES: tuple[Any, ...] = (5, b"a", None, "a\0", "\ud800", "x" * 2001)
_NUMBERS: tuple[Any, ...] = (-1, True, 1.5, "1")


def _uses(probe: Probe) -> list[tuple[str, Any]]:
    """Each message that is about a claim, with one field that is wrong, and the field's name."""
    claim = probe.take("a")
    found: list[tuple[str, Any]] = []

    def add(message: Any, field: str, values: tuple[Any, ...]) -> None:
        name = f"{type(message).__name__}.{field}"
        found.extend((name, message._replace(**{field: value})) for value in values)

    for message in (
        Ack("orders", "a", claim.token),
        Nack("orders", "a", claim.token),
        Extend("orders", "a", claim.token),
        Release("orders", "a", claim.token),
    ):
        add(message, "key", _TEXTS)
        add(message, "token", _TEXTS)
        if isinstance(message, Ack | Nack):
            add(message, "reason", _NOTES)
    add(Ack("orders", "a", claim.token), "then", _TEXTS[:3])
    add(Nack("orders", "a", claim.token), "dead_letter", _TEXTS[:3])
    add(Nack("orders", "a", claim.token), "retry_in", _SECONDS)
    add(Extend("orders", "a", claim.token), "lease", (0, 0.0, *_SECONDS))
    add(ClaimSlice("orders", None), "lease", (0, 0.0, *_SECONDS))
    add(ClaimSlice("orders", None), "limit", (None, *_NUMBERS))
    add(ClaimSlice("orders", None), "by", _NOTES)
    return found


def odd_claims_are_refused(new_store: NewStore) -> None:
    """Fields of other types, or out of range, are InvalidValue that names the field; the claim
    holds, and nothing is changed."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", "b")
        for field, message in _uses(probe):
            error = refuses(InvalidValue, probe.do, message)
            expect(error.name, field, f"the name in the error of {message!r}")
        probe.offers("b")
        expect(probe.get("a").attempts, 1, "the attempts")
        expect(probe.kinds("a"), "pushed claimed", "what happened")


def long_leases_and_notes_are_taken(new_store: NewStore) -> None:
    """A lease and a delay may be as long as a hundred years, a reason 2000 characters, a token's
    holder any text; ints are seconds too."""
    odd = "ä \u2603 '\"\\\n%_" * 100
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", "b")
        (claim,) = probe.do(ClaimSlice("orders", None, 1, MAX_DEDUP_FOR_S, odd[:200])).claims
        expect(claim.until, probe.now + round(MAX_DEDUP_FOR_S * 1e9), "the end of the lease")
        (other,) = probe.do(ClaimSlice("orders", None, 1, 1)).claims
        expect(probe.do(Extend("orders", "b", other.token, 2)), probe.now + 2 * 10**9, "the end")
        probe.do(Nack("orders", "a", claim.token, MAX_DEDUP_FOR_S, odd + "x" * (2000 - len(odd))))
        record = probe.do(History("orders", "a"))[-1]
        expect(record.by, odd[:200], "who had it")
        expect(record.reason, odd + "x" * (2000 - len(odd)), "the reason")


def odd_reads_are_refused(new_store: NewStore) -> None:
    """So are those of the messages about history."""
    kinds: tuple[Any, ...] = (5, "pushed", ["pushed"], frozenset({"pushed"}), frozenset({None}))
    messages: list[tuple[str, Any]] = []
    messages += [("History.key", History("orders", key)) for key in _TEXTS]
    messages += [("Children.key", Children("orders", key)) for key in _TEXTS]
    messages += [("HistoryPage.after", HistoryPage("orders", n)) for n in (None, *_NUMBERS)]
    messages += [("HistoryPage.limit", HistoryPage("orders", 0, n)) for n in (None, *_NUMBERS)]
    messages += [("HistoryPage.kinds", HistoryPage("orders", kinds=value)) for value in kinds]
    with Probe(new_store) as probe:
        probe.push("a")
        for field, message in messages:
            error = refuses(InvalidValue, probe.do, message)
            expect(error.name, field, f"the name in the error of {message!r}")
        probe.holds("a")


def the_endpoint_must_exist_for_these(new_store: NewStore) -> None:
    """At an unknown endpoint they raise EndpointNotFound that names it."""
    with Probe(new_store) as probe:
        for message in (
            ClaimSlice("none", None),
            ClaimSlice("none", "gone"),
            Extend("none", "a", "x"),
            Release("none", "a", "x"),
            History("none", "a"),
            HistoryPage("none"),
            FindCursor("none", "c"),
            MoveCursor("none", "c", 1, 5),
            Children("none", "a"),
            PastPage("none"),
            Stats("none"),
            Consume("none", "received"),
        ):
            error = refuses(EndpointNotFound, probe.do, message)
            expect(error.endpoint_id, "none", f"the id in the error of {message!r}")


CHECKS: tuple[Check, ...] = (
    odd_claims_are_refused,
    long_leases_and_notes_are_taken,
    odd_reads_are_refused,
    the_endpoint_must_exist_for_these,
)
