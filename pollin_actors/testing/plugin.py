"""Fixtures for pytest: ``pytest_plugins = ["pollin_actors.testing.plugin"]`` in your conftest.py.

``pollin_tester`` makes testers and stops them at the end of the test; ``pollin_seed`` is their
seed, which ``--pollin-seed`` sets and which a failed test shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pollin_actors.testing.tester import Tester

__all__ = ["pollin_seed", "pollin_tester"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option for the seed."""
    parser.addoption("--pollin-seed", type=int, default=0, help="seed of simulated applications")


@pytest.fixture
def pollin_seed(request: pytest.FixtureRequest) -> int:
    """The seed of the test's simulations."""
    seed = int(request.config.getoption("--pollin-seed"))
    print(f"--pollin-seed={seed}")  # pytest shows it where a test fails
    return seed


@pytest.fixture
def pollin_tester(pollin_seed: int) -> Iterator[Callable[..., Tester]]:
    """Makes a ``Tester``, started, with the arguments that it is given."""
    with ExitStack() as stack:

        def make(*args: Any, **options: Any) -> Tester:
            return stack.enter_context(Tester(*args, **{"seed": pollin_seed, **options}))

        yield make
