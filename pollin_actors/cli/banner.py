"""What `pollin serve` shows once it listens: where, and how to send something there."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import socket
import time
from urllib.parse import quote

from pollin_actors.cli.screen import Screen
from pollin_actors.cli.signing import curl_line
from pollin_actors.cli.urls import without_credentials
from pollin_actors.errors import InvalidValue, MissingExtra
from pollin_actors.resources import Endpoint
from pollin_actors.signatures import SharedSecret

__all__ = ["show_banner", "url_of"]

BODY, FORM = b'{"hello": "world"}', b"hello=world"


def show_banner(
    screen: Screen,
    sock: socket.socket,
    arguments: argparse.Namespace,
    backend: str,
    endpoints: list[Endpoint],
    admin: str | None,
) -> None:
    """Say where a receiver listens, and how to send to it.

    Args:
        screen: where.
        sock: that it listens on.
        arguments: of the command.
        backend: the URL.
        endpoints: which it is for.
        admin: the path of the admin API, if there is one.
    """
    host = arguments.host.removeprefix("[").removesuffix("]")
    port = sock.getsockname()[1]
    shown = without_credentials(backend)
    # An address that means "all of them" can be listened on, not sent to.
    target = url_of({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
    admin_url = None if admin is None else f"{target}{admin}"
    urls = [f"{target}/{quote(endpoint.id, safe='')}" for endpoint in endpoints]
    curls = [_curl(url, endpoint) for url, endpoint in zip(urls, endpoints, strict=True)]
    if arguments.json:
        fields = {"listening": url_of(host, port), "backend": shown, "admin": admin_url}
        found = [
            {"id": endpoint.id, "url": url, "curl": curl}
            for endpoint, url, curl in zip(endpoints, urls, curls, strict=True)
        ]
        screen.line(json.dumps({"event": "listening", **fields, "endpoints": found}))
        return
    screen.line(f"listening  {url_of(host, port)}")
    screen.line(f"backend    {shown}")
    if admin_url is not None:
        screen.line(f"admin      {admin_url}")
    for curl in curls:
        screen.line(curl)


def _curl(url: str, endpoint: Endpoint) -> str:
    """What to paste into a shell. The one place where a secret is shown: who started the command
    has to know it."""
    scheme = endpoint.intake.scheme
    if scheme != SharedSecret():
        for body, kind in ((BODY, "application/json"), (FORM, "application/x-www-form-urlencoded")):
            # Twilio signs forms only, and for others' public keys there is no secret to sign with.
            with contextlib.suppress(InvalidValue, MissingExtra):
                headers = scheme.sign(body, endpoint.secret, time.time())
                return curl_line(url, [("Content-Type", kind), *headers], body)
        return f"# {url}: signed as {scheme.text()}, which only the sender can"
    bearer = f"Authorization: Bearer {endpoint.secret.reveal()}"
    return (
        f"curl -X POST {shlex.quote(url)} -H {shlex.quote(bearer)} "
        f"-H 'Content-Type: application/json' -d '{BODY.decode()}'"
    )


def url_of(host: str, port: int) -> str:
    """The URL of an address; IPv6 in brackets, its zone escaped."""
    shown = f"[{host.replace('%', '%25')}]" if ":" in host else host
    return f"http://{shown}:{port}"
