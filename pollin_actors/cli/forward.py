"""``pollin forward``: callbacks, POSTed to a URL, at least once."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote

from pollin_actors.cli.ending import Terminated, terminable
from pollin_actors.cli.errors import CommandError, Exit, NotThere, Unavailable, UserError
from pollin_actors.cli.human import duration
from pollin_actors.cli.inbox import Claimed, Inbox
from pollin_actors.cli.options import (
    Commands,
    add_command,
    open_inbox,
    output_of,
    positive,
    seconds,
)
from pollin_actors.cli.output import Output, note
from pollin_actors.cli.urls import http_url

if TYPE_CHECKING:
    import httpx

__all__ = ["add_parser"]

# Of the connection that they came over, and not of the callback.
_OF_THE_CONNECTION = {
    *("connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization"),
    *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    # What comes back is not looked at.
    "accept-encoding",
}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_NOT_IN_A_VALUE = re.compile(r"[\0\n\v\f\r]")
_PLAIN = "!#$&'()*+,/:;=?@[]~ "
WAIT_S = 20.0
SLACK_S = 30.0
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
AGAIN_S = 1.0


def add_parser(commands: Commands) -> None:
    """Add the command to the parser of ``pollin``."""
    parser = add_command(
        commands,
        "forward",
        forward,
        "POST callbacks to a URL, at least once",
        "Claim callbacks one after the other and POST each to a URL, with its headers and its "
        "body. An answer 2xx acknowledges it; anything else has failed, and it is tried again, "
        "later each time. For developing a handler elsewhere.",
    )
    parser.add_argument("endpoint", metavar="ENDPOINT")
    parser.add_argument("url", metavar="URL", help="such as http://127.0.0.1:3000/webhooks")
    parser.add_argument("--phase", help="only callbacks in this phase (default: the first)")
    parser.add_argument(
        "--then", metavar="PHASE", help="for those that are done (default: out of the queue)"
    )
    parser.add_argument("--dead-letter", metavar="PHASE", help="for those that fail for good")
    parser.add_argument(
        "--max-attempts", type=positive, metavar="N", help="needs --dead-letter (default there: 20)"
    )
    parser.add_argument(
        "--answer-within",
        type=seconds,
        default=30.0,
        metavar="SECONDS",
        help="else it has failed (default: 30)",
    )
    parser.add_argument("--count", type=positive, metavar="N", help="end after so many deliveries")
    parser.add_argument("--drain", action="store_true", help="end once none is available")


def forward(arguments: argparse.Namespace) -> int:
    """Forward until Ctrl-C, or as many as asked for; 1 if one of them failed."""
    from pollin_actors.cli.remote import http_client

    if arguments.max_attempts is not None and arguments.dead_letter is None:
        raise UserError("--max-attempts: expected --dead-letter with it, got none")
    if http_url(arguments.url) is None:
        raise UserError("URL: expected one of http or https, such as http://127.0.0.1:3000/hooks")
    with (
        terminable(),
        open_inbox(arguments) as inbox,
        http_client(arguments.url, arguments.answer_within) as client,
    ):
        try:
            return _Forward(arguments, inbox, client).run()
        except Terminated:
            return Exit.TERMINATED


class _Forward:
    """One run.

    Args:
        arguments: of the command.
        inbox: where callbacks are claimed.
        client: that sends them.
    """

    def __init__(self, arguments: argparse.Namespace, inbox: Inbox, client: httpx.Client) -> None:
        self._arguments = arguments
        self._inbox = inbox
        self._client = client
        self._output: Output = output_of(arguments)
        self._by = f"pollin forward {socket.gethostname()}:{os.getpid()}"[:200]
        self._told_hidden = False
        self._failed = False

    def run(self) -> int:
        """Deliver one after the other."""
        arguments, inbox = self._arguments, self._inbox
        phase = self._phase(inbox.endpoint(arguments.endpoint)["phases"])
        wait = 0.0 if arguments.drain else WAIT_S
        # To connect, to send and to wait for the answer may each take so long.
        lease = 3 * arguments.answer_within + SLACK_S
        left, away = arguments.count, False
        while left is None or left > 0:
            try:
                claimed = inbox.claim(arguments.endpoint, phase, lease, wait, self._by)
            except Unavailable as error:
                if arguments.drain or arguments.count:
                    raise
                if not away:
                    note(f"pollin: {error}; trying again")
                away = True
                threading.Event().wait(AGAIN_S)
                continue
            away = False
            if claimed is None:
                if arguments.drain:
                    break
                continue
            self._deliver(claimed)
            if left is not None:
                left -= 1
        return 1 if self._failed else 0

    def _phase(self, known: list[str]) -> str:
        """The phase to take from; nothing is sent if one of the others is not there."""
        arguments = self._arguments
        for option in ("phase", "then", "dead_letter"):
            name = getattr(arguments, option)
            if name is not None and name not in known:
                shown, phases = option.replace("_", "-"), ", ".join(map(repr, known))
                raise UserError(f"--{shown}: expected a phase of {phases}, got {name!r}")
        return arguments.phase or known[0]

    def _deliver(self, claimed: Claimed) -> None:
        try:
            status, reason = self._send(claimed)
            ended = self._end(claimed, reason)
        except BaseException:
            # Nobody knows whether it came to anything: it goes back, as if it had not been tried.
            with contextlib.suppress(CommandError):
                self._ask("release", claimed)
            raise
        self._failed = self._failed or ended != "delivered"
        if self._output.as_json:
            fields = {"key": claimed.key, "attempt": claimed.attempt, "status": status}
            self._output.document({**fields, "reason": reason, "outcome": ended})
            return
        shown = [f"{ended:<9}", claimed.key, f"attempt {claimed.attempt}"]
        self._output.line("  ".join([*shown, reason or f"HTTP {status}"]))

    def _send(self, claimed: Claimed) -> tuple[int | None, str | None]:
        """The status that was answered, and why that is a failure, if it is."""
        import httpx

        from pollin_actors.cli.remote import reason_of

        if claimed.body is None:
            return None, "it holds a value that is no request, and cannot be sent"
        if claimed.hidden and not self._told_hidden:
            self._told_hidden = True
            note(
                "pollin: a server hides headers with credentials and signatures: they are left "
                "out; --backend sends them, too"
            )
        headers = []
        for name, text in claimed.headers:
            if name.lower() in _OF_THE_CONNECTION:
                continue
            value = text.strip(" \t")
            if not _NAME.fullmatch(name) or _NOT_IN_A_VALUE.search(value):
                # Not what is in it: it may be a secret, and the reason is kept.
                return None, f"its header {name[:80]!a} is none of HTTP, and cannot be sent"
            headers.append((name.encode("ascii"), value.encode("latin-1", "replace")))
        headers += [
            (b"x-pollin-callback", quote(claimed.key, safe=_PLAIN).encode("ascii")),
            (b"x-pollin-attempt", b"%d" % claimed.attempt),
        ]
        try:
            request = self._client.build_request("POST", self._arguments.url, content=claimed.body)
            # Only what came, and what the connection needs.
            kept = [
                (k, v) for k, v in request.headers.raw if k.lower() in (b"host", b"content-length")
            ]
            request.headers = httpx.Headers([*kept, *headers])
            # What is in its body is nobody's business, and may be without end.
            answer = self._client.send(request, stream=True)
            answer.close()
        except httpx.LocalProtocolError:
            return None, "it is no request that HTTP can carry"  # its text may show what is in it
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            if isinstance(error, httpx.TimeoutException):
                within = duration(self._arguments.answer_within)
                return None, f"no answer within {within}"
            return None, f"cannot be reached ({reason_of(error)})"
        if answer.is_success:
            return answer.status_code, None
        return answer.status_code, f"HTTP {answer.status_code}"

    def _end(self, claimed: Claimed, reason: str | None) -> str:
        """Say what has become of a claim."""
        arguments = self._arguments
        try:
            if reason is None:
                self._ask("ack", claimed, then=arguments.then)
                return "delivered"
            most = arguments.max_attempts or 20
            if arguments.dead_letter is not None and claimed.attempt >= most:
                self._ask("nack", claimed, reason=reason, dead_letter=arguments.dead_letter)
                return "dead"
            # As far apart as handlers try.
            longest = min(FIRST_RETRY_S * 2 ** min(claimed.attempt - 1, 30), LONGEST_RETRY_S)
            self._ask("nack", claimed, reason=reason, retry_in=random.uniform(0, longest))
        except NotThere:
            # Its lease has ended: somebody else has it, or will.
            return "lost"
        except Unavailable as error:
            note(f"pollin: {error}; {claimed.key} will come again")
            return "unknown"
        return "failed"

    def _ask(self, operation: str, claimed: Claimed, **more: object) -> None:
        body = {"key": claimed.key, "token": claimed.token, **more}
        self._inbox.ask(operation, self._arguments.endpoint, body=body)
