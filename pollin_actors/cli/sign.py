"""``pollin sign`` and ``pollin verify``: requests as providers sign them."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pollin_actors.cli.callbacks import add_reading, read_body, read_file, read_headers
from pollin_actors.cli.errors import UserError
from pollin_actors.cli.human import duration, read_moment
from pollin_actors.cli.options import Commands, add_command, open_inbox, output_of
from pollin_actors.cli.signing import content_type_of, curl_line
from pollin_actors.cli.urls import http_url
from pollin_actors.errors import InvalidValue
from pollin_actors.resources import Secret
from pollin_actors.signatures import Delivery, Refused, Scheme, Verified, parse_scheme

__all__ = ["add_parsers", "hints", "read_raw"]

# Of senders only, who sign with it; no endpoint may have one.
_SIGNING_KEY = "whsk_"
# What may be seconds since the epoch.
_TIMES = re.compile(rb"(?<!\d)1\d{9}(?!\d)")


def add_parsers(commands: Commands) -> None:
    """Add the commands to the parser of ``pollin``."""
    sign_ = add_command(
        commands,
        "sign",
        sign,
        "make a curl line that is signed as a provider signs",
        "Make a line for a shell that sends a request signed as a provider signs it. With "
        "--endpoint it is signed as that endpoint wants, with its secret.",
    )
    add_reading(sign_)
    sign_.add_argument("--url", required=True, help="that it is sent to")
    _add_signing(sign_)
    sign_.add_argument("--id", help="of the event, where the scheme sends one (default: a new one)")
    sign_.add_argument("--at", metavar="TIME", help="when it is signed (default: now)")

    verify_ = add_command(
        commands,
        "verify",
        verify,
        "say whether a request is signed rightly, and why not",
        "Say whether a request verifies, and if not, why. The request is raw: a request line if "
        "there is one, headers, an empty line, the body. What the secret is is never shown.",
    )
    verify_.add_argument("file", metavar="FILE", nargs="?", default="-", help="(default: stdin)")
    _add_signing(verify_)
    verify_.add_argument(
        "--query", help="of the URL that it was sent to, without the question mark"
    )
    verify_.add_argument("--at", metavar="TIME", help="when it came (default: now)")


def _add_signing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scheme", help="such as github, standard or slack?tolerance=60")
    parser.add_argument("--secret", help="else POLLIN_SECRET, which no list of processes shows")
    parser.add_argument(
        "--endpoint", metavar="ID", help="take scheme and secret from this one (of a backend only)"
    )


# -- signing ---------------------------------------------------------------------------------------


def sign(arguments: argparse.Namespace) -> int:
    """Write a curl line."""
    output = output_of(arguments)
    url = http_url(arguments.url)
    if url is None:
        raise UserError(
            "--url: expected one of http or https, such as http://127.0.0.1:8080/orders"
        )
    scheme, secrets = _scheme(arguments)
    body = read_body(arguments)
    at = _at(arguments.at)
    if secrets and not secrets[0].reveal().startswith(_SIGNING_KEY):
        scheme.check_secret(secrets[0])
    headers = read_headers(arguments.header)
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.insert(0, ("Content-Type", content_type_of(body, scheme.name)))
    try:
        signed = scheme.sign(
            body,
            secrets[0] if secrets else Secret("-"),
            at,
            id=arguments.id,
            query=url.query.encode(),
        )
    except InvalidValue as error:
        raise UserError(str(error)) from None
    headers += signed
    line = curl_line(arguments.url, headers, body)
    if output.as_json:
        output.document({"url": arguments.url, "headers": headers, "size": len(body), "curl": line})
    else:
        # As it is, with the line ends of the body: it is for pasting. The rest is quoted.
        output.raw(line)
    return 0


# -- verifying -------------------------------------------------------------------------------------


def verify(arguments: argparse.Namespace) -> int:
    """Say whether a request verifies."""
    output = output_of(arguments)
    scheme, secrets = _scheme(arguments)
    delivery = read_raw(read_file(arguments.file))
    if arguments.query is not None:
        delivery = delivery._replace(query=arguments.query.encode())
    at = _at(arguments.at)
    outcome = scheme.verify(delivery, secrets, at)
    verified = isinstance(outcome, Verified)
    found = list(hints(scheme, delivery, secrets, at)) if isinstance(outcome, Refused) else []
    if output.as_json:
        output.document(_answer(scheme, outcome, found))
    elif isinstance(outcome, Verified):
        pairs: list[tuple[str, object]] = [("verified", scheme.text())]
        if outcome.secret is not None:
            pairs.append(("by the secret", f"fingerprint {outcome.secret.fingerprint()}"))
        pairs.append(("id", outcome.key or "a new one: nothing that was sent names it"))
        if outcome.reply is not None:
            pairs.append(("answered", "at once, and not stored: the sender only asks"))
        output.fields(pairs)
    else:
        output.fields([("refused", outcome.reason), *[("hint", hint) for hint in found]])
    return 0 if verified else 1


def _answer(scheme: Scheme, outcome: Verified | Refused, found: list[str]) -> dict[str, Any]:
    if isinstance(outcome, Refused):
        answer = {"verified": False, "reason": outcome.reason, "hints": found}
    else:
        secret = outcome.secret
        answer = {
            "verified": True,
            "key": outcome.key,
            "fence": outcome.fence,
            "secret_fingerprint": None if secret is None else secret.fingerprint(),
        }
    return {"scheme": scheme.text(), **answer}


class _Try(NamedTuple):
    """What may have gone wrong, and the request as it would be without."""

    hint: str
    delivery: Delivery
    secrets: Sequence[Secret]
    at: float


def hints(
    scheme: Scheme, delivery: Delivery, secrets: Sequence[Secret], at: float
) -> Iterator[str]:
    """What may be wrong with a request that was refused: each mended by itself, and tried."""
    length = _header(delivery, b"content-length")
    if length.isdigit() and int(length[:18]) != len(delivery.body):
        yield (
            f"Content-Length says {length[:18].decode()} bytes, and the body has "
            f"{len(delivery.body)}: it is not the one that was sent"
        )
    for hint, other, others, then in _attempts(scheme, delivery, secrets, at):
        if isinstance(scheme.verify(other, others, then), Verified):
            yield hint


def _attempts(
    scheme: Scheme, delivery: Delivery, secrets: Sequence[Secret], at: float
) -> Iterator[_Try]:
    body = delivery.body
    unix = body.replace(b"\r\n", b"\n")
    bodies = {
        "with the line end at the end of the body removed": re.sub(rb"\r?\n\Z", b"", body),
        "with a line end added to the body": body + b"\n",
        "with the body's line ends as LF": unix,
        "with the body's line ends as CRLF": unix.replace(b"\n", b"\r\n"),
        "without a byte order mark before the body": body.removeprefix(b"\xef\xbb\xbf"),
    }
    for what, other in bodies.items():
        if other != body:
            hint = f"it verifies {what}: that was changed on the way, perhaps by an editor"
            yield _Try(hint, delivery._replace(body=other), secrets, at)
    times = {found for _, value in delivery.headers for found in _TIMES.findall(value)}
    for seconds in sorted(times):
        apart = duration(float(seconds) - at)
        hint = (
            f"the signature is right, the time in it is not: {apart} from --at, by default now; it "
            "was delayed or replayed, or a clock is wrong"
        )
        yield _Try(hint, delivery, secrets, float(seconds))
    for what, texts in (
        ("white space around the secret removed", [it.reveal().strip() for it in secrets]),
        ("whsec_ put before the secret", [f"whsec_{it.reveal()}" for it in secrets]),
        ("whsec_ removed from the secret", [it.reveal().removeprefix("whsec_") for it in secrets]),
    ):
        others = [Secret(text) for text in texts if text]
        if others != list(secrets):
            yield _Try(f"it verifies with {what}", delivery, others, at)


def read_raw(raw: bytes) -> Delivery:
    """A request as it came over the wire, or was copied from a log.

    Raises:
        UserError: it has no headers.
    """
    lines: list[bytes] = []
    rest = raw
    while True:
        line, end, rest = rest.partition(b"\n")
        line = line.removesuffix(b"\r")
        if not line and (end or not rest):
            if lines or not rest:
                break
            continue  # empty lines before it
        lines.append(line)
        if not end:
            break
    query = b""
    words = lines[0].split(b" ") if lines else []
    if len(words) == 3 and words[2].startswith(b"HTTP/"):
        query = words[1].partition(b"?")[2]
        del lines[0]
    headers = []
    for number, line in enumerate(lines, 1):
        name, colon, value = line.partition(b":")
        if not colon or not name.strip():
            raise UserError(
                f"the request: expected headers, an empty line and the body, got no header in line "
                f"{number}: give it as it came over the wire"
            )
        headers.append((name.strip().lower(), value.strip()))
    if not lines and not words:
        raise UserError("the request: expected headers, an empty line and the body, got no headers")
    return Delivery(headers, rest, query)


def _header(delivery: Delivery, name: bytes) -> bytes:
    return next((value for key, value in delivery.headers if key == name), b"")


# -- what it is signed with ------------------------------------------------------------------------


def _scheme(arguments: argparse.Namespace) -> tuple[Scheme, tuple[Secret, ...]]:
    if arguments.endpoint is not None:
        if arguments.scheme is not None or arguments.secret is not None:
            raise UserError("expected --endpoint, or --scheme and --secret, got both")
        with open_inbox(arguments) as inbox:
            scheme, secrets = inbox.scheme_and_secrets(arguments.endpoint)
        return scheme, secrets
    if arguments.scheme is None:
        raise UserError("expected --scheme and --secret, or --endpoint, got neither")
    try:
        scheme = parse_scheme(arguments.scheme)
    except InvalidValue as error:
        raise UserError(f"--scheme: {error}") from None
    text = arguments.secret or os.environ.get("POLLIN_SECRET", "")
    if not text and scheme.name != "none":
        raise UserError("expected a secret, got none: give it as POLLIN_SECRET, or as --secret")
    return scheme, (Secret(text),) if text else ()


def _at(text: str | None) -> float:
    return time.time() if text is None else read_moment(text, "--at") / 1e9
