"""The consumer that `pollin serve` has built in: pops what arrives and shows it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import structlog

from pollin_actors.application import Application
from pollin_actors.cli.screen import Screen, one_line, summary
from pollin_actors.errors import PollinError
from pollin_actors.otp import Actor, OtpError
from pollin_actors.resources import PushResult

__all__ = ["Arrived", "Drain", "Flush", "Printer"]

log = structlog.get_logger("pollin_actors")

PAGE = 100


class Arrived(NamedTuple):
    """A callback was pushed: show it, and pop it unless callbacks are kept."""

    endpoint_id: str
    callback_id: str
    outcome: str
    summary: str

    @classmethod
    def of(cls, endpoint_id: str, result: PushResult) -> Arrived:
        """Make the message. It holds no body: the printer may be behind."""
        callback, outcome = result
        return cls(endpoint_id, callback.id, str(outcome), summary(callback.request))


class Drain(NamedTuple):
    """Show what an endpoint holds already, and pop it unless callbacks are kept.

    ``before``: nanoseconds since the epoch; what is younger is announced by ``Arrived``.
    ``offset``: how many of the oldest have been shown and are left where they are.
    """

    endpoint_id: str
    before: int
    offset: int = 0


class Flush(NamedTuple):
    """Ask for this to know that everything sent before has been shown."""


class Printer(Actor):
    """Shows callbacks and pops them. It may block: a terminal can be slow.

    Once nobody reads its lines any more it leaves the callbacks where they are.

    Args:
        app: the application that it consumes from.
        screen: where it shows them.
        keep: show what arrives, and leave it in the queue.
        as_json: show it as lines of JSON.
    """

    def __init__(self, app: Application, screen: Screen, keep: bool, as_json: bool = False) -> None:
        super().__init__()
        self._app = app
        self._screen = screen
        self._keep = keep
        self._as_json = as_json
        self._silenced = False

    def on_receive(self, message: Any) -> None:
        """Handle ``Arrived``, ``Drain`` and ``Flush``."""
        if isinstance(message, Flush):
            return
        try:
            if isinstance(message, Arrived):
                self._arrived(message)
            elif isinstance(message, Drain):
                self._drain(message)
        except (PollinError, OtpError) as error:
            # No reason to crash: what could not be popped stays in the queue.
            log.warning("printer.failed", endpoint=message.endpoint_id, error=str(error))

    def _arrived(self, message: Arrived) -> None:
        endpoint_id, callback_id, outcome, text = message
        shown = self._show(outcome, endpoint_id, callback_id, text)
        if shown and not self._keep and outcome == "queued":
            self._pop(endpoint_id, callback_id)

    def _drain(self, message: Drain) -> None:
        endpoint_id, before, offset = message
        page = self._app.callbacks.fetch(endpoint_id, offset=offset, limit=PAGE).get()
        for callback in page:
            if callback.created_at >= before:
                return
            text = summary(callback.request)
            if not self._show("queued", endpoint_id, callback.id, text):
                return
            if not self._keep:
                self._pop(endpoint_id, callback.id)
        if len(page) == PAGE:
            # A turn for each page: what arrives, or a shutdown, need not wait for them all.
            self.actor_ref.tell(message._replace(offset=offset + PAGE if self._keep else 0))

    def _pop(self, endpoint_id: str, callback_id: str) -> None:
        callback = self._app.callbacks.pop(endpoint_id, key=callback_id).get()
        if callback is None:
            return  # it has expired, or somebody else was faster
        self._show("popped", endpoint_id, callback_id)
        self._show("processed", endpoint_id, callback_id)

    def _show(self, word: str, endpoint_id: str, callback_id: str, text: str = "") -> bool:
        if self._as_json:
            fields = {"event": word, "endpoint_id": endpoint_id, "callback_id": callback_id}
            line = json.dumps({**fields, "summary": text} if text else fields)
        else:
            line = f"{word:<9}  {endpoint_id}  {one_line(callback_id)}  {text}"
        shown = self._screen.line(line.rstrip())
        if not shown and not self._silenced:
            self._silenced = True
            log.warning("printer.silenced", reason="stdout is closed: callbacks stay in the queue")
        return shown
