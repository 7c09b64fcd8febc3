"""Every backend against the exported checks; and the checks against backends that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from examples.own_backend import ListBackend
from pollin_actors.backends.conformance import CHECKS, Check, NewBackend, check_backend
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.errors import BackendUnavailable
from pollin_actors.messages import Count, CreateEndpoint, IndexEndpoints, Pop
from pollin_actors.resources import Endpoint
from tests.backends.stores import STORES, Stores


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", STORES)
def test_passes(kind: str, check: Check, stores: Stores) -> None:
    """Each of our backends keeps each rule."""
    check(stores.new(kind))


def test_every_check_says_its_rule() -> None:
    """The names differ, and each check has the rule as its docstring."""
    assert len({check.__name__ for check in CHECKS}) == len(CHECKS)
    assert [check.__name__ for check in CHECKS if not check.__doc__] == []


def test_names_the_rule_that_is_broken() -> None:
    """The error has the check's name, its rule, what was expected and what came."""

    class OffByOne(MemoryBackend):
        def execute(self, message: Any) -> Any:
            reply = super().execute(message)
            return reply + 1 if type(message) is Count else reply

    def new_store() -> NewBackend:
        return OffByOne

    with pytest.raises(AssertionError, match=r"^\w+: [A-Z].* expected \d+, got \d+$"):
        check_backend(new_store)


def test_names_a_refusal_that_does_not_come() -> None:
    """A reply where an error is due is shown."""

    class Lenient(MemoryBackend):
        def execute(self, message: Any) -> Any:
            if type(message) is Pop and message.endpoint_id == "none":
                return None
            return super().execute(message)

    def new_store() -> NewBackend:
        return Lenient

    with pytest.raises(AssertionError, match="expected EndpointNotFound, got the reply None"):
        check_backend(new_store)


def test_names_the_rule_that_an_error_breaks() -> None:
    """An error that no rule speaks of is named with the rule, and kept as the cause."""

    class Clumsy(MemoryBackend):
        def execute(self, message: Any) -> Any:
            reply = super().execute(message)
            return reply.callback if type(message) is Pop else reply

    with pytest.raises(AssertionError, match=r"^\w+: [A-Z].* got AttributeError") as caught:
        check_backend(lambda: Clumsy)
    assert isinstance(caught.value.__cause__, AttributeError)


def test_takes_futures_of_the_standard_library() -> None:
    """A backend may answer with concurrent.futures.Future."""

    class Threaded(ListBackend):
        _pool: ThreadPoolExecutor | None = None

        def open(self, time_ns: Callable[[], int]) -> None:
            super().open(time_ns)
            self._pool = ThreadPoolExecutor(1)

        def execute(self, message: Any) -> Future[Any]:
            if self._pool is None:
                raise BackendUnavailable("threaded", "it is not open")
            return self._pool.submit(super().execute, message)

        def close(self) -> None:
            if self._pool is not None:
                self._pool.shutdown()
                self._pool = None
            super().close()

    check_backend(lambda: Threaded)


def test_lets_forget_what_is_not_durable() -> None:
    """A backend that says it is not durable may be empty once it was closed."""

    class Forgetful(ListBackend):
        def close(self) -> None:
            super().close()
            self._queues.clear()

    check_backend(lambda: Forgetful)


def test_memory_does_not_forget() -> None:
    """No rule demands it, but what MemoryBackend holds is there again after reopening."""
    backend = MemoryBackend()
    backend.open(lambda: 1)
    endpoint = backend.execute(CreateEndpoint(Endpoint.new()))
    backend.close()
    backend.open(lambda: 1)
    assert backend.execute(IndexEndpoints()) == [endpoint]
