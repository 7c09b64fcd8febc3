"""examples/prefork_service.py: an Application made before a fork and started after it."""

from __future__ import annotations

import os

import pytest

from examples import prefork_service
from pollin_actors import State
from tests.examples.programs import run


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_it_runs_as_a_program() -> None:
    """The forked worker starts the application, and the application works there."""
    assert run("prefork_service") == "queued in the worker: 1\n"


def test_the_hooks_start_and_stop_the_application() -> None:
    """What a server calls in a worker brings the inbox up, and down again."""
    prefork_service.post_fork(None, None)
    states = [prefork_service.inbox.state]
    prefork_service.worker_exit(None, None)
    states.append(prefork_service.inbox.state)
    assert states == [State.RUNNING, State.STOPPED]
