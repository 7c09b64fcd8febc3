"""What the tests of the dashboard share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pollin_actors import Application
from tests.web.dashboard.visitor import Visitor, orders


@pytest.fixture
def memory() -> Iterator[Application]:
    """A running application with the endpoint orders."""
    with Application(endpoints=[orders()]) as app:
        yield app


@pytest.fixture(params=["memory", "sqlite"])
def inbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    """The same on each backend."""
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'inbox.db'}"
    with Application(url, endpoints=[orders()]) as app:
        yield app


@pytest.fixture
def visitor(memory: Application) -> Iterator[Visitor]:
    """Somebody who has logged in and may change things."""
    with Visitor(memory) as visitor:
        yield visitor.login()
