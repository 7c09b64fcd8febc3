"""The backend on a cluster of three servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import SimpleQueue

import pytest

from pollin_actors.backends.conformance import CHECKS, Check, NewBackend
from pollin_actors.backends.valkey import ValkeyBackend
from pollin_actors.backends.valkey.encoding import endpoint_key
from pollin_actors.backends.valkey.topology import slot_of
from pollin_actors.errors import BackendUnavailable
from pollin_actors.messages import (
    CheckReady,
    ClaimSlice,
    Count,
    CreateEndpoint,
    DumpPage,
    IndexEndpoints,
    Sweep,
)
from pollin_actors.resources import Endpoint
from tests.backends.valkey_inbox import WAIT_S, Inbox
from tests.servers.valkey import ALWAYS, Cluster, cluster

NAMES = [f"e{number}" for number in range(12)]
SECOND = 10**9


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """On the shared cluster, with twelve endpoints more."""
    with Inbox(cluster().url(), ttl=1000) as inbox:
        for name in NAMES:
            inbox.do(CreateEndpoint(Endpoint.new(ttl=1000, id=name)))
        yield inbox


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_passes(check: Check) -> None:
    """It keeps each rule there, too."""

    def new_store() -> NewBackend:
        url = cluster().url()
        return lambda: ValkeyBackend(url)

    check(new_store)


def test_endpoints_are_spread(inbox: Inbox) -> None:
    """All of them are found, and each server has some."""
    assert [one.id for one in inbox.do(IndexEndpoints())] == ["orders", *NAMES]
    owners = {slot_of(endpoint_key("any", name)) * 3 // 16384 for name in NAMES}
    assert owners == {0, 1, 2}
    for name in NAMES:
        inbox.push("a", to=name)
    assert [inbox.do(Count(name)) for name in NAMES] == [1] * len(NAMES)
    for node in cluster().nodes:
        found = node.ask("KEYS", f"{inbox.url.rpartition('prefix=')[2]}:*")
        assert len(found) > 1


def test_one_thread_keeps_its_order(inbox: Inbox) -> None:
    """What it sends to one server after another is answered in that order: each is sent only when
    the one before has been carried out."""
    done: list[str] = []

    def note(name: str) -> Callable[[object], None]:
        return lambda future: done.append(name)

    names = [f"{turn}-{name}" for turn in range(5) for name in NAMES]
    futures = [inbox.start(name, to=name.partition("-")[2])[0] for name in names]
    for name, future in zip(names, futures, strict=True):
        future.add_done_callback(note(name))
    assert {str(future.get(timeout=WAIT_S).outcome) for future in futures} == {"queued"}
    assert done == names


def test_sweeps_reach_all(inbox: Inbox) -> None:
    """One sweep goes over all servers."""
    for name in NAMES:
        inbox.push("a", "b", to=name)
    inbox.now += SECOND
    assert inbox.do(Sweep()) == 2 * len(NAMES)


def test_changes_are_told_across_servers(inbox: Inbox) -> None:
    """Whichever server has the endpoint, and whichever one listens to."""
    told: SimpleQueue[tuple[str | None, bool]] = SimpleQueue()
    other = inbox.open(lambda id, revised: told.put((id, revised)))
    assert told.get(timeout=WAIT_S) == (None, True)
    for name in NAMES:
        other.execute(ClaimSlice(name, None)).get(timeout=WAIT_S)
        inbox.push("a", to=name)
        # That the endpoints were made may come to be known only now.
        while told.get(timeout=WAIT_S) != (name, False):
            pass
    other.close()


def test_a_slot_that_moves_is_followed(inbox: Inbox) -> None:
    """When another server has got an endpoint's slot, messages go there; their order stays."""
    name = "moves"
    slot = slot_of(endpoint_key("any", name))
    nodes = cluster().nodes
    owner = slot * 3 // 16384
    target = (owner + 1) % 3
    inbox.do(CheckReady())
    ids = [node.ask("CLUSTER", "MYID").decode() for node in nodes]
    for one in (target, owner):
        nodes[one].ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
    inbox.do(CreateEndpoint(Endpoint.new(ttl=0, id=name)))
    names = [str(number) for number in range(20)]
    futures = inbox.start(*names, to=name)
    assert {str(future.get(timeout=WAIT_S).outcome) for future in futures} == {"queued"}
    found = inbox.do(DumpPage(name)).callbacks
    assert [one.id for one in found] == names
    key = endpoint_key(inbox.url.rpartition("prefix=")[2], name)
    assert nodes[target].ask("EXISTS", key) == 1


@pytest.mark.parametrize("gone", [0, 2])
def test_a_server_that_restarts_is_survived(gone: int) -> None:
    """While it is away, also if it is the one of the URL, the endpoints of the others work; then it
    is back, with all it had."""
    own = Cluster(ALWAYS)
    try:
        with Inbox(own.url()) as inbox:
            for name in NAMES:
                inbox.do(CreateEndpoint(Endpoint.new(ttl=0, id=name)))
                inbox.push("a", to=name)
            here = [n for n in NAMES if slot_of(endpoint_key("any", n)) * 3 // 16384 != gone]
            away = [n for n in NAMES if n not in here]
            own.nodes[gone].kill()
            for name in away:
                with pytest.raises(BackendUnavailable):
                    inbox.push("b", to=name)
            for name in here:
                assert inbox.push("b", to=name) == ["queued"]
            with pytest.raises(BackendUnavailable):
                inbox.do(CheckReady())
            own.nodes[gone].start()
            own.nodes[gone].until("Cluster state changed: ok")
            for name in away:
                assert inbox.push("a", "c", to=name) == ["duplicate", "queued"]
            inbox.do(CheckReady())
            counts = [inbox.do(Count(name)) for name in NAMES]
            assert counts == [2] * len(NAMES)
    finally:
        own.remove()
