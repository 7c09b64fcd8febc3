"""Several processes, one queue: on the engines that are made for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pollin_actors import Application, Callback, Endpoint, Settings
from pollin_actors.web import wsgi
from tests.backends.stores import Stores
from tests.kill_nodes import Nodes, started
from tests.telemetry.scraping import measured, scrape
from tests.web.receiving import send

SHARED = ["sqlite", "postgres", "valkey"]


@pytest.mark.parametrize("kind", ["postgres", "valkey"])
def test_what_goes_wrong_with_processes_loses_nothing(kind: str, tmp_path: Path) -> None:
    """One is killed, one is halted past its lease, the server is restarted: nothing that was
    answered is lost, a late acknowledgement is refused, and every attempt is in the history.

    CONTRIBUTING.md says how to have more rounds.
    """
    with started(kind) as (url, server):
        nodes = Nodes(url, server, tmp_path, seed=1)
        nodes.run(2)
    assert nodes.acknowledged
    assert (nodes.late, nodes.restarted) == (2, 2)


@pytest.fixture(params=SHARED)
def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Application]]:
    """Two applications on one store, which never look for what the other has done."""
    new = Stores(tmp_path).new(request.param)()
    settings = Settings(poll_interval=100_000)
    one, two = (Application(new(), settings=settings) for _ in range(2))
    with one, two:
        yield [one, two]


def test_a_rotated_secret_is_honoured_by_all(nodes: list[Application]) -> None:
    """At once: by a receiver too that has read the endpoint just before."""
    one, two = nodes
    one.endpoints.create(Endpoint.new(id="orders", secret="old-secret", ttl=0)).get()
    receiver = wsgi(two)
    old, new = {"X-Pollin-Secret": "old-secret"}, {"X-Pollin-Secret": "new-secret"}
    assert [send(receiver, it).status for it in (old, new)] == [200, 401]
    one.endpoints.rotate("orders", secret="new-secret", overlap=0).get()
    assert [send(receiver, it).status for it in (old, new)] == [401, 200]
    two.endpoints.rotate("orders", secret="newer-secret", overlap=60).get()
    newer = {"X-Pollin-Secret": "newer-secret"}
    assert [send(wsgi(one), it).status for it in (new, newer)] == [200, 200]


def test_what_one_does_others_see(nodes: list[Application]) -> None:
    """An endpoint that is disabled, changed or deleted by one is so for the other."""
    one, two = nodes
    endpoint = one.endpoints.create(Endpoint.new(["a"], 0, id="orders", secret="secret-s")).get()
    receiver, headers = wsgi(two), {"X-Pollin-Secret": "secret-s"}
    assert send(receiver, headers).status == 200
    one.endpoints.update(endpoint.replace(phases=["b"])).get()
    assert send(receiver, headers).status == 200
    assert [c.phase for c in one.callbacks.fetch("orders", limit=9).get()] == ["a", "b"]
    one.endpoints.delete("orders").get()
    assert send(receiver, headers).status == 404


def test_metrics_of_each_give_the_same_queues_and_what_it_has_done(
    nodes: list[Application],
) -> None:
    """Whichever process is scraped: the queues are the store's, the counters its own."""
    one, two = nodes
    one.endpoints.create(Endpoint.new(["a", "b"], 0, id="orders")).get()
    watched = [measured(app, timeout=30.0) for app in nodes]
    for app, count in ((one, 3), (two, 1)):
        for _ in range(count):
            app.callbacks.push("orders", Callback.new(b"")).get()
    assert two.callbacks.claim("orders", lease=600.0).get() is not None
    for metrics, pushed in zip(watched, (3, 1), strict=True):
        seen = scrape(metrics)
        assert seen.value("pollin_up") == 1
        assert seen.value("pollin_queued_callbacks", endpoint="orders", phase="a") == 4
        assert seen.value("pollin_claimed_callbacks", endpoint="orders") == 1
        told = {"endpoint": "orders", "outcome": "queued"}
        assert seen.value("pollin_pushes_total", **told) == pushed
