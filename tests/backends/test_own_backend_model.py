"""The backend of the guide against the model of plain lists."""

from __future__ import annotations

from hypothesis import settings

from examples.own_backend import ListBackend
from pollin_actors.backends.conformance import NewBackend
from tests.backends.queue_machine import QueueMachine


class ListMachine(QueueMachine):
    def new_store(self) -> NewBackend:
        return ListBackend


TestListBackendAgainstModel = ListMachine.TestCase
TestListBackendAgainstModel.settings = settings(
    max_examples=100, stateful_step_count=60, deadline=None
)
