"""The receiver in several worker processes: with an inbox that is not shared it says so."""

from __future__ import annotations

import contextlib
import io
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from pollin_actors import Application
from pollin_actors.web import asgi, wsgi
from tests.web.calls import SECRET, endpoint

ROOT = Path(__file__).resolve().parents[2]
EVENT = "receiver.inbox_of_one_process"


class Server:
    """A server with several workers, as a process of its own, and what it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._seen: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern: str, times: int = 1) -> str:
        """The first group of what it prints, or has printed, so many times."""
        found = [it for line in self._seen if (it := re.search(pattern, line))]
        while len(found) < times:
            line = self._lines.get(timeout=60)
            assert line is not None, f"it ended without {pattern}: {''.join(self._seen)}"
            self._seen.append(line)
            found += [it for it in [re.search(pattern, line)] if it]
        last = found[times - 1]
        return last[1] if last.groups() else last[0]

    def stop(self) -> str:
        """All that it has printed."""
        self._process.terminate()
        self._process.wait(60)
        self.reader.join(60)
        while (line := self._lines.get_nowait()) is not None:
            self._seen.append(line)
        return "".join(self._seen)


@contextlib.contextmanager
def workers(command: list[str], inbox: str) -> Iterator[Server]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "INBOX": inbox, "NO_COLOR": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        server = Server(process)
        try:
            yield server
        finally:
            # All of them: workers outlive a parent that is killed.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            server.reader.join(60)


def post(url: str) -> int:
    headers = {"X-Pollin-Secret": SECRET}
    answer = httpx.post(
        f"{url}/orders", content=b"{}", headers=headers, timeout=60, trust_env=False
    )
    return answer.status_code


UVICORN = ["uvicorn", "tests.web.worker:application", "--workers", "2", "--port", "0"]
GUNICORN = ["gunicorn", "tests.web.worker:main", "--workers", "2", "--bind", "127.0.0.1:0"]
# In its workers multiprocessing knows of no parent, and ASGI has no word for others.
ASGI = ["gunicorn", "tests.web.worker:application", "--workers", "2", "--bind", "127.0.0.1:0"]
ASGI += ["--worker-class", "uvicorn.workers.UvicornWorker"]


def commands() -> list[Any]:
    uvicorn = pytest.param(UVICORN, r"running on (http://\S+)", r"startup complete", id="uvicorn")
    no_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn needs fork")
    config = [*GUNICORN, "--config", "python:tests.web.worker"]
    listening = r"Listening at: (http://\S+)"
    return [
        uvicorn,
        pytest.param(config, listening, r"Booting worker", id="gunicorn", marks=no_fork),
        pytest.param(ASGI, listening, r"startup complete", id="gunicorn, asgi", marks=no_fork),
    ]


@pytest.mark.parametrize(("command", "address", "ready"), commands())
def test_workers_that_share_no_inbox_say_so(command: list[str], address: str, ready: str) -> None:
    """With the memory backend each of two workers has a queue of its own: the log says that, and
    what to do."""
    with workers(command, "memory://") as server:
        url = server.wait_for(address)
        # All of them: one that is told to end while it begins may not hear of it.
        server.wait_for(ready, times=2)
        assert post(url) == 200
        assert "sqlite://" in server.wait_for(rf".*{EVENT}.*")
        server.stop()


@pytest.mark.parametrize(("command", "address", "ready"), commands())
def test_workers_with_one_file_have_nothing_to_say(
    tmp_path: Path, command: list[str], address: str, ready: str
) -> None:
    """With SQLite all workers share one queue."""
    with workers(command, f"sqlite:///{tmp_path}/inbox.db") as server:
        url = server.wait_for(address)
        # All of them: one that is told to end while it begins may not hear of it.
        server.wait_for(ready, times=2)
        assert [post(url) for _ in range(5)] == [200] * 5
        assert EVENT not in server.stop()
    with Application(f"sqlite:///{tmp_path}/inbox.db") as app:
        assert app.callbacks.count("orders").get() == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn needs fork")
def test_one_worker_alone_has_nothing_to_say() -> None:
    """It has been forked too, and is the only one."""
    with workers([*ASGI, "--workers", "1"], "memory://") as server:
        url = server.wait_for(r"Listening at: (http://\S+)")
        server.wait_for(r"startup complete")
        assert post(url) == 200
        assert EVENT not in server.stop()


@pytest.mark.parametrize(
    ("wanted", "warned"), [("2", 1), ("1", 0), ("", 0), ("many", 0), ("²", 0), ("9" * 99, 0)]
)
def test_the_environment_says_how_many_workers_there_are(
    monkeypatch: pytest.MonkeyPatch, wanted: str, warned: int
) -> None:
    """``WEB_CONCURRENCY``, which the usual servers go by. It is said once, at the start, without
    any request, for however many receivers."""
    monkeypatch.setenv("WEB_CONCURRENCY", wanted)
    monkeypatch.setitem(sys.modules, "uvicorn", sys)  # as where that serves
    app = Application()
    with capture_logs() as logs:
        wsgi(app), asgi(app)
        for _ in range(2):
            with app:
                wsgi(app)
    assert len([entry for entry in logs if entry["event"] == EVENT]) == warned


@pytest.mark.parametrize("several", [False, True])
def test_wsgi_hears_of_other_processes_from_the_server(several: bool) -> None:
    """``wsgi.multiprocess`` decides, and it is said once."""
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/orders",
        "wsgi.multiprocess": several,
        "wsgi.input": io.BytesIO(),
        "HTTP_X_POLLIN_SECRET": SECRET,
    }
    with Application(endpoints=[endpoint()]) as app, capture_logs() as logs:
        receiver = wsgi(app)
        for _ in range(3):
            receiver(environ, lambda status, headers: None)

    warned = [entry for entry in logs if entry["event"] == EVENT]
    assert [entry["backend"] for entry in warned] == ["MemoryBackend"] * several
    assert all("sqlite://" in entry["hint"] for entry in warned)
