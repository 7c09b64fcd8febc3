"""``pollin serve --metrics``: a page to be scraped beside the receiver, if it is asked for."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest

from pollin_actors.cli import main
from tests.cli.command import TIMEOUT, Serve, environment
from tests.cli.inboxes import TOKEN
from tests.cli.test_serve import post


def scrape(server: Serve, method: str = "GET", path: str = "/metrics") -> httpx.Response:
    return httpx.request(method, f"{server.url}{path}", timeout=TIMEOUT, trust_env=False)


def test_it_is_scraped_beside_the_receiver() -> None:
    """The banner says where; what was received is counted."""
    with Serve("--metrics", "--keep", endpoints=2) as server:
        assert server.banner[2] == f"metrics    {server.url}/metrics"
        server.curls = server.banner[3:]
        post(server)
        answer = scrape(server)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        lines = answer.text.splitlines()
        assert 'pollin_queued_callbacks{endpoint="webhooks",phase="received"} 1.0' in lines
        assert 'pollin_pushes_total{endpoint="webhooks",outcome="queued"} 1.0' in lines
        assert (scrape(server, "HEAD").status_code, scrape(server, "HEAD").text) == (200, "")
        # Nothing else is taken from the receiver.
        assert scrape(server, path="/metrics/").status_code == 404
        assert scrape(server, path="/healthz").status_code == 200
        code, _, errors = server.stop()
        assert (code, errors) == (0, "")


def test_an_endpoint_of_that_name_is_in_nobodys_way() -> None:
    """Scrapers GET, senders POST."""
    with Serve("--metrics", "--endpoint", "metrics", "--keep", endpoints=2) as server:
        server.curls = server.banner[3:]
        post(server, endpoint="metrics")
        assert 'pollin_pushes_total{endpoint="metrics",outcome="queued"} 1.0' in scrape(server).text
        assert scrape(server, "POST").status_code == 401
        assert scrape(server, "DELETE").status_code == 405


def test_beside_the_admin_api() -> None:
    """Each at its own path."""
    with Serve("--metrics", "--admin-token", TOKEN, endpoints=4) as server:
        names = [line.split()[0] for line in server.banner[2:5]]
        assert names == ["admin", "dashboard", "metrics"]
        assert scrape(server).status_code == 200
        assert scrape(server, path="/admin/endpoints").status_code == 401


def test_it_is_off_unless_asked_for() -> None:
    """What would be its path is an endpoint that takes no GET."""
    with Serve() as server:
        assert scrape(server).status_code == 405


def test_the_extra_is_needed_only_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the error says what to install, before anything is started."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert main(["serve", "--port", "0", "--metrics"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "pollin: the package 'prometheus-client' is not installed: "
        'run `pip install "pollin-actors[prometheus]"`\n'
    )


def test_the_extra_is_not_imported_otherwise() -> None:
    """Serving without it loads nothing of it."""
    program = (
        "import sys, pollin_actors.cli.serve as serve; serve._server(None); "
        "assert 'prometheus_client' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=TIMEOUT, env=environment())
