"""What the tests of the admin API share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pollin_actors import Application
from tests.web.admin_api.api import Api, orders


@pytest.fixture(params=["memory", "sqlite"])
def inbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    """A running application with the endpoint orders, on each backend."""
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'inbox.db'}"
    with Application(url, endpoints=[orders()]) as app:
        yield app


@pytest.fixture
def memory() -> Iterator[Application]:
    """A running application with the endpoint orders, for what no backend has a part in."""
    with Application(endpoints=[orders()]) as app:
        yield app


@pytest.fixture
def api(inbox: Application) -> Api:
    """The admin API of an inbox on each backend."""
    return Api(inbox)
