"""``pollin serve`` with an admin API beside the receiver, and with signed endpoints."""

from __future__ import annotations

import base64
import json
import shutil
from urllib.parse import quote

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pollin_actors import Application, Endpoint, Intake
from pollin_actors.cli import main, serve
from pollin_actors.cli.errors import UserError
from tests.cli.command import TIMEOUT, Running, Serve, pollin
from tests.cli.inboxes import TOKEN
from tests.cli.test_serve import post, run_in_shell

curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


class Admin(Serve):
    """One with an admin API and a dashboard, whose lines are the third and fourth of the banner."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        super().__init__(*arguments, endpoints=3, folder=None, **variables)
        self.admin, self.dashboard, *self.curls = self.banner[2:]


def status(url: str, token: str) -> int:
    headers = {"authorization": f"Bearer {token}"}
    return httpx.get(url, headers=headers, timeout=TIMEOUT, trust_env=False).status_code


def page(url: str) -> str:
    return httpx.get(url, timeout=TIMEOUT, trust_env=False).raise_for_status().text


def test_the_admin_api_is_there_for_who_has_the_token() -> None:
    """It is below a path of its own, and the receiver goes on as it was; no token is shown."""
    with Admin("--admin-token", TOKEN) as server:
        assert server.admin == f"admin      {server.url}/admin"
        assert server.dashboard == f"dashboard  {server.url}/dashboard"
        assert status(f"{server.url}/admin/endpoints", TOKEN) == 200
        assert status(f"{server.url}/admin/endpoints", "another-token-of-nobody") == 401
        assert "log in" in page(f"{server.url}/dashboard/login").lower()
        # As it is shown.
        shown = server.dashboard.split()[1]
        answer = httpx.get(shown, timeout=TIMEOUT, trust_env=False)
        assert answer.status_code == 303
        assert answer.headers["location"] == "/dashboard/login"
        assert status(f"{server.url}/administrators", TOKEN) == 405
        post(server)
        assert [server.line().split()[0] for _ in range(3)] == ["queued", "popped", "processed"]
        assert all(TOKEN not in line for line in server.banner)

        code, output, errors = pollin(
            *("history", "webhooks", "nothing", "--json"),
            *("--server", f"{server.url}/admin", "--token", TOKEN),
        )
        assert (code, output, errors) == (1, '{"records": []}\n', "")
        assert server.stop() == (0, ["stopped"], "")


def test_the_token_of_the_environment() -> None:
    """It does as well as the option."""
    with Admin(POLLIN_ADMIN_TOKEN=TOKEN) as server:
        assert status(f"{server.url}/admin/endpoints", TOKEN) == 200


def test_without_a_token_there_is_none() -> None:
    """What would be its path is an endpoint that is not there."""
    with Serve() as server:
        assert status(f"{server.url}/admin/endpoints", TOKEN) == 404


@pytest.mark.parametrize("token", ["short", "with white space in it"])
def test_a_weak_token_is_refused(capsys: pytest.CaptureFixture[str], token: str) -> None:
    """Before anything is started, and without showing it."""
    assert main(["serve", "--port", "0", "--admin-token", token]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pollin: --admin-token: expected ")
    assert token not in error


@pytest.mark.parametrize(("id", "what"), [("admin", "admin API"), ("dashboard", "dashboard")])
def test_an_endpoint_that_would_be_hidden(
    capsys: pytest.CaptureFixture[str], id: str, what: str
) -> None:
    """It is refused, rather than never reached."""
    assert main(["serve", "--port", "0", "--admin-token", TOKEN, "--endpoint", id]) == 2
    assert f"--endpoint: {id!r} is where the {what} is" in capsys.readouterr().err


def test_the_backend_of_the_environment() -> None:
    """As for all other commands; an option wins."""
    with Serve(POLLIN_BACKEND="sqlite:///other.db") as server:
        assert server.banner[1] == "backend    sqlite:///other.db"
    with Serve("--backend", "memory://", POLLIN_BACKEND="sqlite:///other.db") as server:
        assert server.banner[1] == "backend    memory://"


def test_lines_of_json() -> None:
    """The same for programs."""
    command = ("serve", "--port", "0", "--backend", "memory://", "--json")
    with Running(*command, "--secret", "sesame") as running:
        listening = json.loads(running.line())
        (endpoint,) = listening["endpoints"]
        assert (listening["backend"], listening["admin"]) == ("memory://", None)
        assert endpoint["url"] == f"{listening['listening']}/webhooks"
        answer = httpx.post(
            endpoint["url"],
            content=b"\x1b[2J",
            headers={"x-pollin-secret": "sesame"},
            timeout=TIMEOUT,
            trust_env=False,
        )
        key = answer.json()["id"]
        told = [json.loads(running.line()) for _ in range(3)]
        assert [it["event"] for it in told] == ["queued", "popped", "processed"]
        assert {it["callback_id"] for it in told} == {key}
        assert told[0]["summary"] == "4 bytes  \\x1b[2J"
        assert running.stop() == (0, '{"event": "stopped"}\n', "")


@curl
@pytest.mark.parametrize("scheme", ["github", "standard", "stripe", "secret?header=X-Mine"])
def test_the_curl_line_is_signed_as_the_endpoint_wants(scheme: str) -> None:
    """Pasted into a shell, it is taken as genuine."""
    with Serve("--intake", scheme) as server:
        assert '"outcome": "queued"' in run_in_shell(server.curls[0])
        assert server.line().endswith('18 bytes  {"hello": "world"}')


@curl
def test_twilio_is_sent_a_form() -> None:
    """It signs no JSON."""
    scheme = "twilio?url=https%3A%2F%2Fx.example%2Fsms"
    with Serve("--intake", scheme) as server:
        assert '"outcome": "queued"' in run_in_shell(server.curls[0])
        assert server.line().endswith("11 bytes  hello=world")


def test_what_only_the_sender_can_sign() -> None:
    """With a key of its own: a remark is where the line would be."""
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    public = "whpk_" + base64.b64encode(key).decode()
    scheme = f"standard?public_keys={quote(public)}"
    with Serve("--intake", scheme, "--secret", "no-secret-of-theirs") as server:
        assert server.curls[0].startswith(f"# {server.url}/webhooks: signed as standard?")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--intake", "pigeon"], "--intake: expected one of github, hmac, none"),
        (["--intake", "twilio"], "write twilio?url=…"),
        (["--intake", "standard", "--secret", "weak"], "--secret: expected whsec_"),
        (["--backend", "sqlite:///no/such/folder/a.db"], "check that the folder exists"),
    ],
)
def test_what_is_wrong_is_said(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """One line, with the option; a backend that fails has a code of its own."""
    assert main(["serve", "--port", "0", *arguments]) == (3 if "--backend" in arguments else 2)
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_an_endpoint_that_exists_and_is_signed_otherwise() -> None:
    """It is left as it is."""
    with Application() as app:
        app.endpoints.create(Endpoint.new(id="a", intake=Intake("github"))).get()
        asked = Endpoint.new(id="a", intake=Intake("stripe"))
        with pytest.raises(UserError, match="exists, signed as github: leave out --intake"):
            serve._ensure(app, asked, None, True)
        assert serve._ensure(app, asked, None, False).intake == Intake("github")
