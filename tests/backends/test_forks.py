"""Backends that are opened by another thread while the process is forked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import postgres, valkey

ROOT = Path(__file__).parents[2]

# One thread opens and is held in the middle of it. The child has no such thread: it must not wait
# for it. Of a file that was being opened SQLite itself keeps locks that are the parent's.
CODE = """
import os, sys, threading, time
from pollin_actors import ForkedProcess
from pollin_actors.backends import open_backend
from pollin_actors.backends.postgres import writer as postgres
from pollin_actors.backends.sqlite import backend as sqlite
from pollin_actors.backends.valkey.exchange import Exchange
from pollin_actors.messages import IndexEndpoints

kind, url = sys.argv[1:]
place, name = {
    "postgres": (postgres, "migrate"),
    "sqlite": (sqlite, "connect"),
    "valkey": (Exchange, "open"),
}[kind]
inside, further = threading.Event(), threading.Event()
really = getattr(place, name)

def wait(*args, **more):
    inside.set()
    further.wait()
    return really(*args, **more)

setattr(place, name, wait)
backend = open_backend(url)
opening = threading.Thread(target=backend.open, args=(time.time_ns,))
opening.start()
inside.wait()
if child := os.fork():
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    further.set()
    opening.join()
else:
    setattr(place, name, really)
    try:
        backend.open(time.time_ns)
    except ForkedProcess:
        os._exit(3 if kind == "sqlite" else 4)
assert backend.execute(IndexEndpoints()).get(timeout=60) == []
backend.close()
os._exit(0 if child else 3)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("kind", ["postgres", "sqlite", "valkey"])
def test_a_child_does_not_wait_for_who_was_opening(kind: str, tmp_path: Path) -> None:
    """It opens for itself; a file that is there already it is not given, and is told so."""
    path = tmp_path / "inbox.db"
    path.touch()
    new_url = {
        "postgres": postgres.new_schema,
        "sqlite": lambda: f"sqlite:///{path}",
        "valkey": valkey.new_url,
    }[kind]
    done = subprocess.run(
        [sys.executable, "-c", CODE, kind, new_url()],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
