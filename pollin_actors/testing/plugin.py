"""Fixtures for pytest, which finds this plugin by itself.

``pollin_tester`` makes testers and stops them at the end of the test. ``pollin_seed`` is their
seed: ``--pollin-seed`` sets it, and a test that fails shows it.

Everything else is imported only when a fixture is used: pytest loads this module wherever the
package is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pollin_actors.testing.tester import Tester

__all__ = ["pollin_seed", "pollin_tester"]

_SEED = "pollin_seed"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option for the seed."""
    group = parser.getgroup("pollin_actors")
    group.addoption("--pollin-seed", type=int, default=0, help="seed of simulated applications")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the seed of a test that fails."""
    report = yield
    if report.failed and _SEED in getattr(item, "funcargs", {}):
        report.sections.append(("pollin_actors", f"--pollin-seed={item.funcargs[_SEED]}"))  # type: ignore[attr-defined]
    return report


@pytest.fixture
def pollin_seed(request: pytest.FixtureRequest) -> int:
    """The seed of the test's simulations."""
    return int(request.config.getoption("--pollin-seed"))


@pytest.fixture
def pollin_tester(pollin_seed: int) -> Iterator[Callable[..., Tester]]:
    """Makes a ``Tester``, started, with the arguments that it is given."""
    from pollin_actors.testing.tester import Tester

    with ExitStack() as stack:

        def make(*args: Any, **options: Any) -> Tester:
            return stack.enter_context(Tester(*args, **{"seed": pollin_seed, **options}))

        yield make
