"""Checks of an endpoint's secrets: which are valid, and for how long."""

from __future__ import annotations

from typing import Any

from pollin_actors.backends.conformance.probe import (
    SECOND,
    Check,
    NewStore,
    Probe,
    expect,
    refuses,
)
from pollin_actors.endpoint import MAX_OLD_SECRETS
from pollin_actors.errors import EndpointNotFound, InvalidValue, WrongSecret
from pollin_actors.messages import FindEndpoint, Push, RotateSecret, UpdateEndpoint
from pollin_actors.resources import MAX_TIME_NS, Callback, Endpoint, OldSecret, Secret

__all__ = ["CHECKS"]


def _rotate(probe: Probe, secret: str, seconds: float) -> Endpoint:
    """Give ``orders`` this secret; the reply, which must be what is stored."""
    until = probe.now + round(seconds * SECOND)
    reply: Endpoint = probe.do(RotateSecret("orders", Secret(secret), until))
    expect(probe.do(FindEndpoint("orders")), reply, "the endpoint")
    return reply


def _takes(probe: Probe, secrets: str) -> None:
    """Raise unless just these of the secrets are taken, with pushes and as bytes too."""
    for secret in "stuw":
        for shown in (secret, secret.encode(), Secret(secret)):
            push = Push("orders", Callback.new(b"x"), shown)
            if secret in secrets:
                expect(probe.do(push).outcome, "queued", f"the outcome with {secret!r}")
            else:
                refuses(WrongSecret, probe.do, push)


def old_secrets_are_valid_for_a_while(new_store: NewStore) -> None:
    """After RotateSecret the new secret is valid, and until the time that was said the old one;
    the reply is the endpoint as it is now."""
    with Probe(new_store) as probe:
        old = OldSecret(Secret("s"), probe.now + 10 * SECOND)
        changed = probe.endpoint.replace(secret="t", old_secrets=(old,))
        expect(_rotate(probe, "t", 10), changed, "the reply")
        _takes(probe, "st")
        if probe.backend.durable:
            probe.reopen()
            expect(probe.do(FindEndpoint("orders")), changed, "the endpoint after a restart")
        probe.now += 10 * SECOND - 1
        _takes(probe, "st")
        probe.now += 1
        _takes(probe, "t")


def rotations_add_up(new_store: NewStore) -> None:
    """Each old secret is valid for as long as was said of it, the newest is the first; what is
    valid no longer is still listed, eight at most."""
    with Probe(new_store) as probe:
        start = probe.now
        _rotate(probe, "t", 30)
        probe.now += SECOND
        old = _rotate(probe, "u", 10).old_secrets
        of_t, of_s = OldSecret(Secret("t"), start + 11 * SECOND), (Secret("s"), start + 30 * SECOND)
        expect(old, (of_t, OldSecret(*of_s)), "the old secrets")
        _takes(probe, "stu")
        probe.now = of_t.until
        _takes(probe, "su")
        old = _rotate(probe, "w", 5).old_secrets
        expect([item.secret.reveal() for item in old], ["u", "t", "s"], "the old secrets")
        _takes(probe, "suw")
        for number in range(MAX_OLD_SECRETS):
            old = _rotate(probe, f"more {number}", 5).old_secrets
        expect(len(old), MAX_OLD_SECRETS, "the number of old secrets")
        expect(old[-1].secret.reveal(), "w", "the oldest")


def rotations_need_no_overlap(new_store: NewStore) -> None:
    """A time that has come leaves all old secrets invalid at once; the present secret again is no
    old one, and one that was old is so no more."""
    with Probe(new_store) as probe:
        expect(_rotate(probe, "s", 10), probe.endpoint, "the reply to the same secret")
        ended = OldSecret(Secret("s"), probe.now)
        changed = probe.endpoint.replace(secret="t", old_secrets=(ended,))
        expect(_rotate(probe, "t", 0), changed, "the reply")
        _takes(probe, "t")
        _rotate(probe, "u", 10)
        old = OldSecret(Secret("u"), probe.now + 20 * SECOND)
        back = probe.endpoint.replace(secret="t", old_secrets=(old, ended))
        expect(_rotate(probe, "t", 20), back, "the reply to an old secret")
        _takes(probe, "tu")
        _rotate(probe, "w", 20)
        _takes(probe, "tuw")
        _rotate(probe, "w", 0)
        _takes(probe, "w")


def updates_replace_old_secrets(new_store: NewStore) -> None:
    """UpdateEndpoint leaves just those old secrets that its endpoint has; they count at once."""
    with Probe(new_store) as probe:
        _rotate(probe, "t", 10)
        old = OldSecret(Secret("u"), probe.now + 2)
        changed = probe.endpoint.replace(secret="w", old_secrets=(old,))
        expect(probe.do(UpdateEndpoint(changed)), changed, "the reply")
        _takes(probe, "uw")
        probe.now += 2
        _takes(probe, "w")


def rotations_change_nothing_else(new_store: NewStore) -> None:
    """What is queued, remembered, recorded and claimed stays."""
    with Probe(new_store) as probe:
        probe.push("a", "b")
        probe.take("a")
        before = probe.records()
        _rotate(probe, "t", 10)
        expect(probe.records(), before, "the records")
        expect(probe.push("a"), ["duplicate"], "the outcome")
        probe.offers("b")
        probe.holds("a b")


def wrong_rotations_are_refused(new_store: NewStore) -> None:
    """RotateSecret of an unknown endpoint raises EndpointNotFound, one without a Secret or a time
    InvalidValue that names the field; nothing is changed."""
    secrets: tuple[Any, ...] = (None, 5, "t", b"t", "")
    times: tuple[Any, ...] = (None, -1, True, 1.5, "1", MAX_TIME_NS + 1)
    with Probe(new_store) as probe:
        unknown = RotateSecret("none", Secret("t"), probe.now)
        refuses(EndpointNotFound, probe.do, unknown)
        fields = [("secret", value) for value in secrets] + [("until", value) for value in times]
        for name, value in fields:
            right = RotateSecret("orders", Secret("t"), probe.now + SECOND)
            error = refuses(InvalidValue, probe.do, right._replace(**{name: value}))
            expect(error.name, f"RotateSecret.{name}", f"the name in the error of {value!r}")
        expect(probe.do(FindEndpoint("orders")), probe.endpoint, "the endpoint")
        _takes(probe, "s")
        probe.do(RotateSecret("orders", Secret("t"), MAX_TIME_NS))
        _takes(probe, "st")


CHECKS: tuple[Check, ...] = (
    old_secrets_are_valid_for_a_while,
    rotations_add_up,
    rotations_need_no_overlap,
    updates_replace_old_secrets,
    rotations_change_nothing_else,
    wrong_rotations_are_refused,
)
