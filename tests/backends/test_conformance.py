"""Every backend against the exported checks; and the checks against backends that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from pollin_actors.backends.conformance import CHECKS, Check, NewBackend, check_backend
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import Count, Pop
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
