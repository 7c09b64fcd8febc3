"""examples/many_processes.py: several of them share the work."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from examples import many_processes
from pollin_actors import Callback
from pollin_actors.records import Kind
from tests.examples.programs import ROOT
from tests.servers import postgres, valkey


@pytest.fixture(params=["postgres", "valkey"])
def url(request: pytest.FixtureRequest) -> str:
    return postgres.new_schema() if request.param == "postgres" else valkey.new_url()


@pytest.fixture
def services(url: str) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "examples.many_processes", url]
    services = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        yield services
    finally:
        for service in services:
            service.kill()
            with service:
                pass


def test_each_callback_is_handled_once(url: str, services: list[subprocess.Popen[str]]) -> None:
    """Whoever handles it; and they end in order when they are told to."""
    inbox = many_processes.new_inbox(url)
    with inbox:
        for handler in inbox.handlers:
            inbox.handlers.pause(handler.name).get()
        for service in services:
            # Its log comes there as well.
            assert any(line.endswith("works\n") for line in service.stdout or [])
        pushed = [inbox.callbacks.push("orders", Callback.new(b"x")) for _ in range(20)]
        ids = [reply.get().callback.id for reply in pushed]
        handled = inbox.callbacks.subscribe("orders", kinds=[Kind.ACKNOWLEDGED])
        assert sorted(next(handled).callback_id for _ in ids) == sorted(ids)
        for service in services:
            service.send_signal(signal.SIGTERM)
        lines = [line for it in services for line in (it.stdout or []) if "handles" in line]
        assert sorted(line.split()[-1] for line in lines) == sorted(ids)
        assert [service.wait(30) for service in services] == [0, 0]


def test_the_compose_file_starts_the_example() -> None:
    """It is YAML, and what it starts is there."""
    text = Path(ROOT / "examples" / "compose.yaml").read_text(encoding="utf-8")
    services = yaml.safe_load(text)["services"]
    assert "examples/many_processes.py postgresql://" in services["service"]["command"][-1]
    assert set(services) == {"postgres", "valkey", "service"}
