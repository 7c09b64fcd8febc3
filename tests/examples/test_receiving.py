"""examples/receiving.py: several providers, rotation, and what did not verify."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from examples import receiving
from pollin_actors import Application, Secret
from pollin_actors.signatures import parse_scheme
from pollin_actors.testing import Tester
from tests.examples.programs import post, serve

JSON = {"content-type": "application/json"}
BODY = b'{"id": "evt_1"}'


@pytest.fixture
def tester() -> Iterator[Tester]:
    with Tester(app=receiving.new_inbox()) as tester:
        yield tester


def signed(scheme: str, secret: str, now: float, body: bytes = BODY) -> dict[str, str]:
    return dict(parse_scheme(scheme).sign(body, Secret(secret), now, id="one"))


def test_each_endpoint_asks_what_its_intake_says() -> None:
    """The right signature and content type are asked, a disabled endpoint is gone, and the
    service's own pages are left alone."""
    with receiving.new_inbox() as inbox:
        client = receiving.service(inbox).test_client()
        assert client.get("/").text == "the service's own pages"
        headers = {**signed("github", "change-me-too", time.time()), **JSON}
        taken = client.post("/hooks/github", data=BODY, headers=headers)
        assert taken.get_json()["outcome"] == "queued"
        again = client.post("/hooks/github", data=BODY, headers=headers)
        assert again.get_json() == {**taken.get_json(), "outcome": "duplicate"}
        plain = {**headers, "content-type": "text/plain"}
        assert client.post("/hooks/github", data=BODY, headers=plain).status_code == 415
        assert client.post("/hooks/github", data=b"{}", headers=headers).status_code == 401
        stripe = signed("stripe", "whsec_change-me", time.time())
        billed = client.post("/hooks/billing", data=BODY, headers=stripe)
        assert billed.get_json()["id"] == "evt_1"
        late = signed("stripe", "whsec_change-me", time.time() - 120)
        assert client.post("/hooks/billing", data=BODY, headers=late).status_code == 401
        assert client.post("/hooks/retired", data=BODY).status_code == 410
        assert client.post("/hooks/internal", data=b"x" * 1_000_001).status_code == 413


def test_rotation_leaves_the_old_secret_valid_for_a_while() -> None:
    """Both are accepted until the sender has the new one."""
    with receiving.new_inbox() as inbox:
        client = receiving.service(inbox).test_client()
        new = receiving.rotate(inbox, "internal")
        for secret in ("change-me", new):
            headers = {"x-pollin-secret": secret}
            assert client.post("/hooks/internal", data=BODY, headers=headers).status_code == 200
        headers = {"x-pollin-secret": "neither"}
        assert client.post("/hooks/internal", data=BODY, headers=headers).status_code == 401


def send_to_partner(app: Application, secret: str) -> int:
    client = receiving.service(app).test_client()
    scheme = app.endpoints.find("partner").get().intake.scheme.text()  # type: ignore[union-attr]
    headers = signed(scheme, secret, time.time())
    return client.post("/hooks/partner", data=BODY, headers=headers).status_code


def test_what_does_not_verify_waits_for_the_right_secret(tester: Tester) -> None:
    """It is answered 200, kept out of the endpoint, and let in once the secret is mended."""
    assert send_to_partner(tester.app, "right") == 200
    tester.drain()
    assert tester.received("partner") == []
    [reason] = receiving.reasons(tester.app, "partner")
    assert "X-Acme-Signature" in reason

    assert receiving.mend(tester.app, "partner", "right") == 1
    tester.drain()
    [callback] = tester.received("partner")
    assert callback.request.body == BODY
    assert receiving.reasons(tester.app, "partner") == []


def test_it_serves_as_a_program_and_stops_at_sigterm() -> None:
    """A real request is answered 200; SIGTERM ends the program in order."""
    with serve("receiving") as server:
        assert post(f"{server.url}/hooks/internal", b"{}", {"x-pollin-secret": "change-me"}) == 200
        assert server.stop() == 0
        assert server.printed.endswith("stopped\n")
