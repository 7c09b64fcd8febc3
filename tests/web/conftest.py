"""What the tests of the web share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pollin_actors import Application
from tests.web.calls import endpoint


@pytest.fixture
def app() -> Iterator[Application]:
    """A running application with the endpoints orders and other."""
    with Application(endpoints=[endpoint("orders"), endpoint("other")]) as running:
        yield running
