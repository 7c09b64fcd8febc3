"""What `pollin serve` shows once it listens: where, and how to send something there."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import socket
import time
from collections.abc import Mapping
from urllib.parse import quote

from pollin_actors.cli.screen import Screen
from pollin_actors.cli.signing import curl_line
from pollin_actors.cli.urls import without_credentials
from pollin_actors.errors import InvalidValue, MissingExtra
from pollin_actors.resources import Endpoint
from pollin_actors.signatures import SharedSecret

__all__ = ["show_banner", "url_of"]

BODY, FORM = b'{"hello": "world"}', b"hello=world"
_NONE = {"admin": None, "dashboard": None, "metrics": None}


def show_banner(
    screen: Screen,
    sock: socket.socket,
    arguments: argparse.Namespace,
    backend: str,
    endpoints: list[Endpoint],
    paths: Mapping[str, str],
) -> None:
    """Say where a receiver listens, and how to send to it.

    Args:
        screen: where.
        sock: that it listens on.
        arguments: of the command.
        backend: the URL.
        endpoints: which it is for.
        paths: of what else is there, by its name.
    """
    host = arguments.host.removeprefix("[").removesuffix("]")
    port = sock.getsockname()[1]
    shown = without_credentials(backend)
    # An address that means "all of them" can be listened on, not sent to.
    target = url_of({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
    others = {name: f"{target}{path}" for name, path in paths.items()}
    urls = [f"{target}/{quote(endpoint.id, safe='')}" for endpoint in endpoints]
    curls = [_curl(url, endpoint) for url, endpoint in zip(urls, endpoints, strict=True)]
    if arguments.json:
        fields = {"listening": url_of(host, port), "backend": shown, **_NONE, **others}
        found = [
            {"id": endpoint.id, "url": url, "curl": curl}
            for endpoint, url, curl in zip(endpoints, urls, curls, strict=True)
        ]
        screen.line(json.dumps({"event": "listening", **fields, "endpoints": found}))
        return
    screen.line(f"listening  {url_of(host, port)}")
    screen.line(f"backend    {shown}")
    for name, url in others.items():
        screen.line(f"{name:<9}  {url}")
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
