"""Checks of the tokens of claims: each opens one claim, and none that has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pollin_actors.backends.conformance.probe import SECOND, Check, NewStore, Probe, expect, refuses
from pollin_actors.errors import ClaimLost, EndpointNotFound, UnknownPhase
from pollin_actors.messages import (
    Ack,
    ClaimSlice,
    Count,
    CreateEndpoint,
    DeleteCallback,
    DeleteEndpoint,
    Extend,
    Fetch,
    Nack,
    Release,
    Reset,
    UpdatePhase,
)

__all__ = ["CHECKS"]


def _uses(key: str, token: str, endpoint_id: str = "orders") -> list[Any]:
    """Every message that a token is for."""
    return [
        Ack(endpoint_id, key, token),
        Ack(endpoint_id, key, token, "processed"),
        Ack(endpoint_id, key, token, None, True, "why"),
        Nack(endpoint_id, key, token),
        Nack(endpoint_id, key, token, 0.0, "why", "processed"),
        Extend(endpoint_id, key, token),
        Release(endpoint_id, key, token),
    ]


def _is_lost(probe: Probe, key: str, token: str) -> None:
    """Raise unless the token opens nothing, and trying it changes nothing."""
    before = probe.do(Fetch("orders", key))
    attempts = before and before.attempts
    for message in _uses(key, token):
        error = refuses(ClaimLost, probe.do, message)
        expect((error.endpoint_id, error.callback_id), ("orders", key), "what the error names")
        now = probe.do(Fetch("orders", key))
        expect((now, now and now.attempts), (before, attempts), f"the callback after {message!r}")


Ending = Callable[[Probe, str], object]


def _lapse(probe: Probe, token: str) -> None:
    probe.now += 30 * SECOND


def _anew(probe: Probe, token: str) -> None:
    probe.do(DeleteEndpoint("orders"))
    probe.do(CreateEndpoint(probe.endpoint))


ENDINGS: dict[str, Ending] = {
    "Ack": lambda probe, token: probe.do(Ack("orders", "a", token)),
    "Ack into a phase": lambda probe, token: probe.do(Ack("orders", "a", token, "processed")),
    "Ack that discards": lambda probe, token: probe.do(Ack("orders", "a", token, None, True)),
    "Nack": lambda probe, token: probe.do(Nack("orders", "a", token)),
    "Nack with a delay": lambda probe, token: probe.do(Nack("orders", "a", token, 60.0)),
    "Nack for the last time": lambda probe, token: probe.do(
        Nack("orders", "a", token, 0.0, "", "processed")
    ),
    "Release": lambda probe, token: probe.do(Release("orders", "a", token)),
    "the lease": _lapse,
    "UpdatePhase": lambda probe, token: probe.do(UpdatePhase("orders", "a", "processed")),
    "DeleteCallback": lambda probe, token: probe.do(DeleteCallback("orders", "a")),
    "Reset": lambda probe, token: probe.do(Reset("orders")),
    "a new endpoint of that id": _anew,
}


def tokens_end_with_their_claim(new_store: NewStore) -> None:
    """However a claim has ended, its token is refused: ClaimLost, and nothing is changed."""
    for name, end in ENDINGS.items():
        with Probe(new_store, 0, 0.0) as probe:
            probe.push("a")
            token = probe.take("a").token
            end(probe, token)
            try:
                _is_lost(probe, "a", token)
            except AssertionError as error:
                raise AssertionError(f"after {name}: {error}") from error


def tokens_end_for_good(new_store: NewStore) -> None:
    """Once a claim has ended its token is refused, also while another claim on that id holds."""
    for name, end in ENDINGS.items():
        with Probe(new_store, 0, 0.0) as probe:
            probe.push("a")
            old = probe.take("a").token
            end(probe, old)
            probe.now += 60 * SECOND
            probe.push("a")
            new = probe.take("a")
            try:
                _is_lost(probe, "a", old)
            except AssertionError as error:
                raise AssertionError(f"after {name} and another claim: {error}") from error
            probe.do(Ack("orders", "a", new.token))


def tokens_are_refused_in_their_last_nanosecond(new_store: NewStore) -> None:
    """A token is good until just before its lease ends, and refused from then on, also if nobody
    else has claimed the callback or looked at it."""
    for use in _uses("a", ""):
        with Probe(new_store, ttl=0) as probe:
            probe.push("a", "b")
            first, second = probe.claim(2, None, 1.0)
            probe.now += SECOND - 1
            probe.do(use._replace(token=first.token))
            probe.now += 1
            refuses(ClaimLost, probe.do, use._replace(key="b", token=second.token))
            expect(probe.get("b").phase, "received", "its phase")
            expect(probe.get("b").attempts, 1, "its attempts")


def tokens_open_their_own_claim_only(new_store: NewStore) -> None:
    """A token of another callback, of that id in another endpoint, or none, is refused."""
    with Probe(new_store, ttl=0) as probe:
        probe.do(CreateEndpoint(probe.endpoint.replace(id="other")))
        probe.push("a", "b", "c")
        probe.push("a", to="other")
        first, second = probe.claim(2)
        (foreign,) = probe.do(ClaimSlice("other", None)).claims
        odd = ("", "x", "\ud800", first.token + "x", first.token[:-1], first.token + "\0")
        for token in (second.token, foreign.token, *odd):
            _is_lost(probe, "a", token)
        for key in ("c", "d", "", "\ud800", "A"):
            _is_lost(probe, key, first.token)
        _is_lost(probe, "c", "")
        for message in _uses("a", first.token, "other"):
            refuses(ClaimLost, probe.do, message)
        for endpoint_id, claim in (("orders", first), ("orders", second), ("other", foreign)):
            probe.do(Ack(endpoint_id, claim.key, claim.token))
        expect(probe.do(Count("other")), 0, "the other endpoint's count")
        probe.holds("c")


def what_does_not_exist_is_said_first(new_store: NewStore) -> None:
    """EndpointNotFound comes before UnknownPhase, that before ClaimLost; the claim holds on."""
    with Probe(new_store) as probe:
        probe.push("a")
        token = probe.take("a").token
        for message in _uses("a", token, "none"):
            error = refuses(EndpointNotFound, probe.do, message)
            expect(error.endpoint_id, "none", "the id in the error")
        for phase in ("gone", "", "Processed"):
            for known in (token, "wrong"):
                refuses(EndpointNotFound, probe.do, Ack("none", "a", known, phase))
                refuses(UnknownPhase, probe.do, Ack("orders", "a", known, phase))
                dead = Nack("orders", "a", known, 0.0, "", phase)
                refuses(UnknownPhase, probe.do, dead)
        expect(probe.get("a").phase, "received", "the phase")
        probe.offers("")
        probe.do(Ack("orders", "a", token, "processed"))
        expect(probe.get("a").phase, "processed", "the phase after the ack")


CHECKS: tuple[Check, ...] = (
    tokens_end_with_their_claim,
    tokens_end_for_good,
    tokens_are_refused_in_their_last_nanosecond,
    tokens_open_their_own_claim_only,
    what_does_not_exist_is_said_first,
)
