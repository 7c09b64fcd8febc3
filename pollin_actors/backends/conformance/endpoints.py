"""Checks of the operations on endpoints."""

from __future__ import annotations

from pollin_actors.backends.conformance.probe import Check, NewStore, Probe, expect, refuses
from pollin_actors.errors import (
    EndpointConflict,
    EndpointExists,
    EndpointNotFound,
    InvalidValue,
    UnknownPhase,
    WrongSecret,
)
from pollin_actors.messages import (
    Count,
    CreateEndpoint,
    DeleteCallback,
    DeleteEndpoint,
    DumpPage,
    Fetch,
    FetchReverse,
    FetchSlice,
    FindEndpoint,
    IndexEndpoints,
    Pop,
    PopSlice,
    Push,
    Reset,
    RotateSecret,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.resources import (
    MAX_DEDUP_FOR_S,
    MAX_TIME_NS,
    MAX_TTL_MS,
    Callback,
    Endpoint,
    Intake,
    OldSecret,
    Secret,
)

__all__ = ["CHECKS"]


def endpoints_are_listed_in_creation_order(new_store: NewStore) -> None:
    """They are listed in creation order; an update keeps the place, a new creation does not."""
    with Probe(new_store) as probe:
        for name in ("b", "a"):
            probe.do(CreateEndpoint(Endpoint.new(id=name)))
        probe.do(UpdateEndpoint(probe.endpoint.replace(ttl=5)))
        listed = [endpoint.id for endpoint in probe.do(IndexEndpoints())]
        expect(listed, ["orders", "b", "a"], "the list")
        probe.do(DeleteEndpoint("b"))
        probe.do(CreateEndpoint(Endpoint.new(id="b")))
        listed = [endpoint.id for endpoint in probe.do(IndexEndpoints())]
        expect(listed, ["orders", "a", "b"], "the list")


def endpoints_are_kept_exactly(new_store: NewStore) -> None:
    """FindEndpoint answers the endpoint as it was created, every field of it, or None."""
    with Probe(new_store) as probe:
        expect(probe.do(FindEndpoint("orders")), probe.endpoint, "the endpoint")
        expect(probe.do(FindEndpoint("none")), None, "an unknown endpoint")
        odd = Endpoint(
            id="ö%_'\"\\☃",
            secret="ß \t'\"\N{PILE OF POO}",  # type: ignore[arg-type]  # is made a Secret
            phases=("ä b", "'", '"', ",", "☃"),
            ttl=MAX_TTL_MS,
            created_at=0,
            dedup_for=MAX_DEDUP_FOR_S,
            keep_for=MAX_DEDUP_FOR_S,
            consumes=("☃", "'"),
            capacity=2**62,
            capacity_bytes=0,
            intake=Intake("none", "later", False, ["text/plain"], 0.1, 3),
            old_secrets=(OldSecret(Secret("ö'"), MAX_TIME_NS), OldSecret(Secret("x"), 0)),
        )
        expect(probe.do(CreateEndpoint(odd)), odd, "the reply")
        found = probe.do(FindEndpoint(odd.id))
        expect(found, odd, "the endpoint")
        expect(found.secret.matches(odd.secret), True, "its secret")
        expect(type(found.dedup_for), float, "the type of dedup_for")
        expect(type(found.keep_for), float, "the type of keep_for")
        small = odd.replace(id="small", ttl=0, dedup_for=0.1, keep_for=0, capacity=0)
        probe.do(CreateEndpoint(small))
        expect(probe.do(FindEndpoint("small")), small, "the endpoint")
        plain = small.replace(id="plain", consumes=(), capacity=None, capacity_bytes=None)
        plain = plain.replace(intake=Intake(), old_secrets=())
        probe.do(CreateEndpoint(plain))
        expect(probe.do(FindEndpoint("plain")), plain, "the endpoint")
        changed = plain.replace(consumes=("☃",), capacity=7, keep_for=2, intake=odd.intake)
        expect(probe.do(UpdateEndpoint(changed)), changed, "the reply")
        expect(probe.do(FindEndpoint("plain")), changed, "the endpoint")


def endpoints_are_created_once(new_store: NewStore) -> None:
    """CreateEndpoint of an id that exists raises EndpointExists, and nothing is changed."""
    with Probe(new_store) as probe:
        probe.push("a")
        again = CreateEndpoint(Endpoint.new(id="orders"))
        refuses(EndpointExists, probe.do, again)
        expect(probe.do(FindEndpoint("orders")), probe.endpoint, "the endpoint")
        probe.holds("a")


def updates_keep_what_is_queued(new_store: NewStore) -> None:
    """UpdateEndpoint keeps callbacks with their phase, and counts for later pushes."""
    with Probe(new_store) as probe:
        probe.push("a")
        changed = probe.endpoint.replace(phases=("new", "processed"), secret="t")
        expect(probe.do(UpdateEndpoint(changed)), changed, "the reply")
        expect(probe.do(FindEndpoint("orders")), changed, "the endpoint")
        expect(probe.do(Fetch("orders")).phase, "received", "the phase of what is queued")
        probe.push("b")
        expect(probe.do(Fetch("orders", "b")).phase, "new", "the phase of a later push")
        expect(probe.do(Count("orders", "received")), 1, "the count of a phase that went")
        expect(probe.ids(FetchSlice("orders", "received")), "a", "the slice of that phase")
        probe.do(Pop("orders"))
        gone = Count("orders", "received")
        refuses(UnknownPhase, probe.do, gone)


def a_changed_secret_counts_at_once(new_store: NewStore) -> None:
    """After UpdateEndpoint the new secret counts, and the old one does not any more."""
    with Probe(new_store) as probe:
        probe.do(Push("orders", Callback.new(b"x", id="a"), "s"))
        probe.do(UpdateEndpoint(probe.endpoint.replace(secret="t")))
        old = Push("orders", Callback.new(b"x", id="b"), "s")
        refuses(WrongSecret, probe.do, old)
        new = Push("orders", Callback.new(b"x", id="c"), "t")
        expect(probe.do(new).outcome, "queued", "the outcome with the new secret")
        probe.holds("a c")


def only_what_exists_is_updated(new_store: NewStore) -> None:
    """UpdateEndpoint of an unknown id raises EndpointNotFound and creates nothing."""
    with Probe(new_store) as probe:
        update = UpdateEndpoint(Endpoint.new(id="none"))
        refuses(EndpointNotFound, probe.do, update)
        expect(probe.do(FindEndpoint("none")), None, "the endpoint")


def only_what_is_as_expected_is_updated(new_store: NewStore) -> None:
    """UpdateEndpoint that expects an endpoint other than the stored one, be it only by its secret,
    raises EndpointConflict, and nothing is changed; one that expects no Endpoint, InvalidValue."""
    with Probe(new_store) as probe:
        found = probe.do(FindEndpoint("orders"))
        rotated = probe.do(RotateSecret("orders", Secret("t"), probe.now + 10))
        late = UpdateEndpoint(found.replace(ttl=5), found)
        refuses(EndpointConflict, probe.do, late)
        half = rotated.replace(old_secrets=())
        refuses(EndpointConflict, probe.do, UpdateEndpoint(half, half))
        expect(probe.do(FindEndpoint("orders")), rotated, "the endpoint")
        changed = rotated.replace(ttl=5, phases=("new",), dedup_for=0.5, consumes=["new"])
        expect(probe.do(UpdateEndpoint(changed, rotated)), changed, "the reply")
        expect(probe.do(FindEndpoint("orders")), changed, "the endpoint")
        unknown = Endpoint.new(id="none")
        refuses(EndpointNotFound, probe.do, UpdateEndpoint(unknown, unknown))
        for wrong in ("orders", 5, ("orders",)):
            refuses(InvalidValue, probe.do, UpdateEndpoint(rotated, wrong))  # type: ignore[arg-type]
        expect(probe.do(FindEndpoint("orders")), changed, "the endpoint")


def deleting_removes_everything(new_store: NewStore) -> None:
    """DeleteEndpoint says whether it existed; callbacks and the memory of ids go with it."""
    with Probe(new_store) as probe:
        probe.do(CreateEndpoint(Endpoint.new(id="other")))
        probe.push("a", to="other")
        probe.push("a", "b")
        probe.do(Pop("orders"))
        expect(probe.do(DeleteEndpoint("orders")), True, "the reply")
        expect(probe.do(DeleteEndpoint("orders")), False, "the second reply")
        expect([e.id for e in probe.do(IndexEndpoints())], ["other"], "the list")
        refuses(EndpointNotFound, probe.do, Count("orders"))
        probe.do(CreateEndpoint(probe.endpoint))
        probe.holds("")
        expect(probe.push("a", "b"), ["queued", "queued"], "the outcomes")
        expect(probe.ids(FetchSlice("other")), "a", "another endpoint's queue")


def an_endpoint_must_exist(new_store: NewStore) -> None:
    """Every operation on callbacks of an unknown endpoint raises EndpointNotFound that names it."""
    with Probe(new_store) as probe:
        for message in (
            Push("none", Callback.new(b""), trusted=True),
            Pop("none"),
            PopSlice("none"),
            Fetch("none"),
            FetchSlice("none"),
            FetchReverse("none"),
            Count("none"),
            DumpPage("none"),
            Reset("none"),
            DeleteCallback("none", "a"),
            UpdatePhase("none", "a", "received"),
        ):
            name = type(message).__name__
            error = refuses(EndpointNotFound, probe.do, message)
            expect(error.endpoint_id, "none", f"the id in the error of {name}")


def other_messages_are_refused(new_store: NewStore) -> None:
    """What is no message of pollin_actors.messages raises InvalidValue that names its type."""
    with Probe(new_store) as probe:
        for message in (None, "pop", ("orders", None), Endpoint):
            error = refuses(InvalidValue, probe.do, message)
            if type(message).__qualname__ not in str(error):
                raise AssertionError(f"the error does not name the type of {message!r}: {error}")


CHECKS: tuple[Check, ...] = (
    endpoints_are_listed_in_creation_order,
    endpoints_are_kept_exactly,
    endpoints_are_created_once,
    updates_keep_what_is_queued,
    a_changed_secret_counts_at_once,
    only_what_exists_is_updated,
    only_what_is_as_expected_is_updated,
    deleting_removes_everything,
    an_endpoint_must_exist,
    other_messages_are_refused,
)
