"""`pollin sign` and `pollin verify`: as providers sign, and why it fails."""

from __future__ import annotations

import shlex
import time
from typing import Any

import pytest

from pollin_actors import Application, Endpoint, Intake
from pollin_actors.cli.sign import read_raw
from pollin_actors.resources import Secret
from pollin_actors.signatures import Delivery, Verified, parse_scheme
from tests.cli.inboxes import Cli

WHSEC = "whsec_" + "QUJD" * 8
SCHEMES = {
    "github": "s3cret",
    "standard": WHSEC,
    "stripe": "whsec_abc",
    "slack": "s3cret",
    "shopify": "s3cret",
    "secret": "s3cret",
    "secret?header=X-Gitlab-Token": "s3cret",
    "hmac?header=X-Acme&signed=%7Btimestamp%7D.%7Bbody%7D&timestamp_header=X-Time": "s3cret",
    "none": "any",
}


@pytest.fixture
def tool(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command without an inbox: none is needed."""
    return Cli(Application(), capsys, monkeypatch, ())


def delivery_of(curl: str) -> Delivery:
    """What a curl line sends, read as a shell reads it."""
    words = shlex.split(curl)
    assert words[:3] == ["curl", "-X", "POST"]
    rest, headers, body = iter(words[4:]), [], b""
    for option in rest:
        value = next(rest)
        if option == "-H":
            name, _, text = value.partition(": ")
            headers.append((name.encode(), text.encode()))
        else:
            assert option == "--data-raw"
            body = value.encode()
    return Delivery(headers, body, words[3].partition("?")[2].encode())


def raw(delivery: Delivery, line_end: bytes = b"\r\n") -> bytes:
    """As it goes over the wire."""
    lines = [b"POST /orders?%b HTTP/1.1" % delivery.query]
    lines += [b"%b: %b" % pair for pair in delivery.headers]
    return line_end.join([*lines, b"", b""]) + delivery.body


def signed(text: str, secret: str, body: bytes = b'{"id": "evt_1"}', at: float = 0) -> Delivery:
    headers = parse_scheme(text).sign(body, Secret(secret), at or time.time())
    return Delivery([(name.encode(), value.encode()) for name, value in headers], body)


class TestSign:
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_what_it_signs_verifies(self, tool: Cli, scheme: str) -> None:
        """The line sends what the provider would, quotes, line ends and all."""
        body = """{"it's": "$HOME `x` \\\\ größe",\n "id": "evt_1"}"""
        options = ("--scheme", scheme, "--secret", SCHEMES[scheme], "--url", "http://h:1/x")
        line = tool("sign", *options, "--data", body).out

        sent = delivery_of(line)
        assert sent.body == body.encode()
        outcome = parse_scheme(scheme).verify(sent, [Secret(SCHEMES[scheme])], time.time())
        assert isinstance(outcome, Verified)
        assert (b"Content-Type", b"application/json") in sent.headers

    def test_a_body_that_cannot_be_pasted(self, tool: Cli) -> None:
        """Bytes and control characters come as base64."""
        options = ("--scheme", "github", "--secret", "s", "--url", "http://h:1/x")
        for body in (b"\xff\x00", b"\x1b[2J", b"a\r\n", "\u202e".encode()):
            line = tool("sign", *options, stdin=body).out
            assert line.startswith("echo ")
            assert "| base64 -d | curl " in line
            assert line[:-1].isprintable()

    def test_an_at_sign_is_no_file(self, tool: Cli) -> None:
        """A body that begins with one is sent as it is."""
        options = ("--scheme", "none", "--url", "http://h:1/x")
        assert "--data-raw @passwords" in tool("sign", *options, "--data", "@passwords").out

    def test_json(self, tool: Cli) -> None:
        """The headers and the line; signed at another time if that is asked for."""
        options = ("--scheme", "stripe", "--secret", "s", "--url", "http://h:1/x")
        found = tool.json("sign", *options, "--data", "{}", "--at", "2026-01-02T03:04:05Z")
        headers = dict(found["headers"])
        assert headers["Stripe-Signature"].startswith("t=1767323045,v1=")
        assert found["size"] == 2

    def test_as_an_endpoint_wants_it(self, app: Application, cli: Cli) -> None:
        """With its scheme and its secret; of a backend only."""
        endpoint = Endpoint.new(id="gh", intake=Intake("github"))
        app.endpoints.create(endpoint).get()
        options = ("--endpoint", "gh", "--url", "http://h:1/gh", "--data", "{}")
        if cli.remote:
            said = cli.fails("sign", *options, code=2)
            assert "a server never shows secrets" in said
            return
        sent = delivery_of(cli("sign", *options).out)
        outcome = endpoint.intake.scheme.verify(sent, [endpoint.secret], time.time())
        assert isinstance(outcome, Verified)
        assert "does not exist" in cli.fails("sign", "--endpoint", "x", *options[2:], code=1)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--scheme", "pigeon", "--secret", "s3cret"], "--scheme: scheme: expected one of"),
            (["--scheme", "github"], "expected a secret, got none: give it as POLLIN_SECRET"),
            (["--secret", "s3cret"], "expected --scheme and --secret, or --endpoint, got neither"),
            (["--scheme", "standard", "--secret", "s3cret"], "secret: expected whsec_"),
            (["--scheme", "github", "--secret", "s3cret", "--endpoint", "a"], "got both"),
            (["--scheme", "twilio", "--secret", "s3cret"], "write twilio?url=…"),
            (["--scheme", "github", "--secret", "s3cret", "--url", "ftp://x"], "--url: expected"),
        ],
    )
    def test_what_is_wrong_is_said(self, tool: Cli, arguments: list[str], said: str) -> None:
        """Without the secret."""
        line = tool.fails("sign", "--url", "http://h:1/x", "--data", "{}", *arguments, code=2)
        assert said in line
        assert "s3cret" not in line


class TestVerify:
    @pytest.mark.parametrize("scheme", SCHEMES)
    @pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
    def test_what_is_genuine(self, tool: Cli, scheme: str, line_end: bytes) -> None:
        """Whatever the scheme, and whatever line ends the headers have; no secret is shown."""
        request = raw(signed(scheme, SCHEMES[scheme]), line_end)
        ran = tool("verify", "--scheme", scheme, "--secret", SCHEMES[scheme], stdin=request)
        assert ran.out.startswith("verified")
        assert SCHEMES[scheme] not in ran.out.replace(scheme, "")

    def test_json(self, tool: Cli) -> None:
        """What was verified, by which secret; or the reason."""
        options = ("verify", "--scheme", "stripe", "--secret", "right")
        found = tool.json(*options, stdin=raw(signed("stripe", "right")))
        assert found == {
            "scheme": "stripe",
            "verified": True,
            "key": "evt_1",
            "fence": None,
            "secret_fingerprint": Secret("right").fingerprint(),
        }
        refused = tool.json(*options, stdin=raw(signed("stripe", "wrong")), code=1)
        assert refused["verified"] is False
        assert refused["hints"] == []
        assert "secret" in refused["reason"] or "signature" in refused["reason"]

    @pytest.mark.parametrize(
        ("change", "hint"),
        [
            (lambda body: body + b"\n", "with the line end at the end of the body removed"),
            (lambda body: body + b"\r\n", "with the line end at the end of the body removed"),
            (lambda body: b"\xef\xbb\xbf" + body, "without a byte order mark"),
            (lambda body: body.replace(b"\n", b"\r\n"), "with the body's line ends as LF"),
        ],
    )
    def test_a_body_that_was_changed(self, tool: Cli, change: Any, hint: str) -> None:
        """What an editor does to a body is found out."""
        sent = signed("github", "s3cret", b'{\n"a": 1}')
        request = raw(sent._replace(body=change(sent.body)))
        ran = tool("verify", "--scheme", "github", "--secret", "s3cret", stdin=request, code=1)
        assert ran.out.startswith("refused  ")
        assert f"hint     it verifies {hint}" in ran.out

    def test_content_length(self, tool: Cli) -> None:
        """A length that is not the body's is pointed out; one that is, is not."""
        sent = signed("github", "s3cret", b"{} ")
        sent = sent._replace(headers=[*sent.headers, (b"Content-Length", b"2")])
        for body, hinted in ((b"{} x", True), (b"{}", False)):
            request = raw(sent._replace(body=body))
            ran = tool("verify", "--scheme", "github", "--secret", "x", stdin=request, code=1)
            assert ("Content-Length says 2 bytes, and the body has 4" in ran.out) is hinted

    def test_a_time_that_is_past(self, tool: Cli) -> None:
        """The signature is right: that is said, and --at verifies it."""
        request = raw(signed("standard", WHSEC, at=1_767_323_045))
        options = ("verify", "--scheme", "standard", "--secret", WHSEC)
        ran = tool(*options, stdin=request, code=1)
        assert "the signature is right, the time in it is not" in ran.out
        tool(*options, "--at", "2026-01-02T03:05:00", stdin=request)

    def test_a_secret_that_was_copied_wrongly(self, tool: Cli) -> None:
        """White space around it, or the beginning left out."""
        request = raw(signed("github", "s3cret"))
        options = ("verify", "--scheme", "github", "--secret")
        assert (
            "white space around the secret" in tool(*options, " s3cret", stdin=request, code=1).out
        )
        request = raw(signed("stripe", "whsec_abc"))
        ran = tool("verify", "--scheme", "stripe", "--secret", "abc", stdin=request, code=1)
        assert "whsec_ put before the secret" in ran.out

    def test_the_query_is_in_the_request_line_or_given(self, tool: Cli) -> None:
        """Where it is signed, it has to come from somewhere."""
        scheme = "twilio?url=https%3A%2F%2Fx.example%2Fsms%3Fb%3D2"
        headers = parse_scheme(scheme).sign(b"A=1", Secret("t"), 0, query=b"b=2")
        sent = Delivery([(n.encode(), v.encode()) for n, v in headers], b"A=1", b"b=2")
        options = ("verify", "--scheme", scheme, "--secret", "t")
        tool(*options, stdin=raw(sent))
        tool(*options, stdin=raw(sent).partition(b"\r\n")[2], code=1)
        tool(*options, "--query", "b=2", stdin=raw(sent).partition(b"\r\n")[2])

    def test_the_secret_from_the_environment(
        self, tool: Cli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No list of processes shows it there."""
        monkeypatch.setenv("POLLIN_SECRET", "s3cret")
        tool("verify", "--scheme", "github", stdin=raw(signed("github", "s3cret")))

    def test_old_secrets_of_an_endpoint(self, cli: Cli) -> None:
        """As long as they are valid; of a backend only."""
        app = cli.app
        app.endpoints.create(Endpoint.new(id="gh", secret="old", intake=Intake("github"))).get()
        app.endpoints.rotate("gh", secret="new").get()
        for secret, code in (("old", 0), ("new", 0), ("other", 1)):
            request = raw(signed("github", secret))
            expected = 2 if cli.remote else code
            cli("verify", "--endpoint", "gh", stdin=request, code=expected)

    @pytest.mark.parametrize("request_", [b"", b"\n \n", b"no header\r\n\r\n", b": x\n\n"])
    def test_what_is_no_request(self, tool: Cli, request_: bytes) -> None:
        """It is an error of who calls, not a signature that is wrong."""
        options = ("verify", "--scheme", "github", "--secret", "s")
        assert "expected headers" in tool.fails(*options, stdin=request_, code=2)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://[", "http://x:99999/", "http://x y"])
def test_where_nothing_can_be_sent_to(tool: Cli, url: str) -> None:
    """Whatever is wrong with a URL is one line."""
    said = tool.fails("sign", "--scheme", "github", "--secret", "x", "--url", url, code=2)
    assert "--url: expected one of http or https" in said


@pytest.mark.parametrize(
    ("text", "headers", "body"),
    [
        (b"A: b\r\n\r\nx", [(b"a", b"b")], b"x"),
        (b"A:b\n\n\n\nx\n", [(b"a", b"b")], b"\n\nx\n"),
        (b"\n\nPOST / HTTP/1.1\nA: b: c\n\n", [(b"a", b"b: c")], b""),
        (b"A: b", [(b"a", b"b")], b""),
        (b"A: b\r\nA: \xff\r\n\r\n\r\n", [(b"a", b"b"), (b"a", b"\xff")], b"\r\n"),
    ],
)
def test_raw_requests(text: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """The first empty line ends the headers, whatever line ends there are."""
    assert read_raw(text)[:2] == (headers, body)
