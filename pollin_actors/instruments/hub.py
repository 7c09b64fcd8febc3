"""Whom to tell: the places that do the work ask here, which costs nothing if nobody watches."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable
from functools import partial
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from pollin_actors.errors import InvalidValue
from pollin_actors.instruments.interface import Call, Instruments
from pollin_actors.otp.futures import ReplyFuture, error_of
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.last_words import OWN
from pollin_actors.otp.later import Later

if TYPE_CHECKING:
    from pollin_actors.otp import Event
    from pollin_actors.records import Claim
    from pollin_actors.resources import Callback

__all__ = ["NOBODY", "Instrumentation", "Tokens"]

log = structlog.get_logger("pollin_actors")

Tokens: TypeAlias = list[tuple[Instruments, Any]]
"""What each has returned at a beginning, to be given back at the end."""


class Instrumentation:
    """The instruments of one application: ``app.instruments``.

    Each attribute that ends in ``_by`` holds those who want to know of one thing. It stays the same
    list, so that whoever does the work can keep it and look whether there is anybody in it. Its
    contents are changed in one step, and nobody needs a lock; who is added or removed at that
    moment may miss one event, or be told of one twice.
    """

    __slots__ = (
        "_failed",
        "_guard",
        "_hear",
        "called_by",
        "handled_by",
        "listeners",
        "operated_by",
        "received_by",
        "sent_by",
        "settled_by",
        "supervised_by",
    )

    def __init__(self) -> None:
        self._guard = Guard()
        self._failed: set[tuple[int, str]] = set()
        # Told when there are others: supervision has an event hook of its own.
        self._hear: Callable[[], object] | None = None
        self.listeners: tuple[Instruments, ...] = ()
        self.operated_by: list[Instruments] = []
        self.sent_by: list[Instruments] = []
        self.received_by: list[Instruments] = []
        self.called_by: list[Instruments] = []
        self.handled_by: list[Instruments] = []
        self.settled_by: list[Instruments] = []
        self.supervised_by: list[Instruments] = []

    def __repr__(self) -> str:
        return f"<Instrumentation: {', '.join(map(repr, self.listeners)) or 'nobody'}>"

    def add(self, instruments: Instruments) -> None:
        """Tell these instruments from now on, too; at any time, and each once.

        Raises:
            InvalidValue: they are no ``Instruments``.
        """
        given: object = instruments
        if not isinstance(given, Instruments):
            got = f"a {type(given).__name__}"
            raise InvalidValue("instruments", "an instance of a subclass of Instruments", got)
        self._guard.run(self._add, instruments)

    def remove(self, instruments: Instruments) -> None:
        """Tell them no more. Nothing happens if they were never added."""
        self._guard.run(self._remove, instruments)

    def _add(self, instruments: Instruments) -> None:
        # Whether they are the same, and not whether they say that they are equal.
        if not any(each is instruments for each in self.listeners):
            self._replace((*self.listeners, instruments))

    def _remove(self, instruments: Instruments) -> None:
        self._replace(tuple(each for each in self.listeners if each is not instruments))
        self._failed = {key for key in self._failed if key[0] != id(instruments)}

    def _replace(self, listeners: tuple[Instruments, ...]) -> None:
        self.listeners = listeners
        self.operated_by[:] = self._having("operated")
        self.sent_by[:] = self._having("sending", "sent")
        self.received_by[:] = self._having("receiving", "received")
        self.called_by[:] = self._having("calling", "called")
        self.handled_by[:] = self._having("handled")
        self.settled_by[:] = self._having("settled")
        self.supervised_by[:] = self._having("supervised")
        if self._hear is not None:
            self._hear()

    def _having(self, *names: str) -> list[Instruments]:
        def has(each: Instruments) -> bool:
            return any(
                getattr(type(each), name) is not getattr(Instruments, name) for name in names
            )

        return list(filter(has, self.listeners))

    # -- for the places that do the work: ask first whether there is anybody -----------------------

    def execute(
        self, execute: Callable[[Any], Any], message: Any, clock: Callable[[], float]
    ) -> Any:
        """Have a backend carry out an operation, and tell how that went."""
        began = clock()
        try:
            reply = execute(message)
        except Exception as error:
            self.operated(message, clock() - began, None, error)
            raise
        if isinstance(reply, concurrent.futures.Future):
            reply = Later(reply).future
        if isinstance(reply, ReplyFuture):
            reply.add_done_callback(partial(self._answered, message, clock, began))
        else:
            self.operated(message, clock() - began, reply, None)
        return reply

    def operated(
        self, message: Any, seconds: float, reply: Any, error: BaseException | None
    ) -> None:
        """A backend has answered."""
        for each in self.operated_by:
            try:
                each.operated(message, seconds, reply, error)
            except OWN as failure:
                self._fail(each, "operated", failure)

    def _answered(
        self, message: Any, clock: Callable[[], float], began: float, reply: ReplyFuture[Any]
    ) -> None:
        value, error = _outcome_of(reply)
        self.operated(message, clock() - began, value, error)

    def push(
        self, endpoint_id: str, callback: Callback, send: Callable[[], ReplyFuture[Any]]
    ) -> ReplyFuture[Any]:
        """Send a push, and tell of it before and after."""
        tokens = self._begin(self.sent_by, "sending", endpoint_id, callback)
        try:
            reply = send()
        except BaseException as error:
            self._sent(tokens, None, error)
            raise
        if reply.done():
            self._settled(tokens, reply)
        else:
            reply.add_done_callback(partial(self._settled, tokens))
        return reply

    def _settled(self, tokens: Tokens, reply: ReplyFuture[Any]) -> None:
        self._sent(tokens, *_outcome_of(reply))

    def _sent(self, tokens: Tokens, result: Any, error: BaseException | None) -> None:
        # Told twice if the first time was interrupted: each token is given back once.
        while tokens:
            each, token = tokens.pop()
            try:
                each.sent(token, result, error)
            except OWN as failure:
                self._fail(each, "sent", failure)

    def receiving(self, headers: Any) -> Tokens:
        """A receiver has got a request."""
        return self._begin(self.received_by, "receiving", headers)

    def received(
        self, tokens: Tokens, endpoint_id: str | None, status: int, outcome: str, seconds: float
    ) -> None:
        """It has answered."""
        for each, token in tokens:
            try:
                each.received(token, endpoint_id, status, outcome, seconds)
            except OWN as failure:
                self._fail(each, "received", failure)

    def calling(self, call: Call) -> Tokens:
        """A handler's function is about to be called, in the present context."""
        return self._begin(self.called_by, "calling", call)

    def called(self, tokens: Tokens, call: Call, result: Any, error: BaseException | None) -> None:
        """It has ended."""
        for each, token in reversed(tokens):
            try:
                each.called(token, call, result, error)
            except OWN as failure:
                self._fail(each, "called", failure)

    def handled(self, call: Call, seconds: float, outcome: str) -> None:
        """A consumer knows of it."""
        for each in self.handled_by:
            try:
                each.handled(call, seconds, outcome)
            except OWN as failure:
                self._fail(each, "handled", failure)

    def settled(self, handler: str, claim: Claim, outcome: str) -> None:
        """What has become of a claim is stored."""
        for each in self.settled_by:
            try:
                each.settled(handler, claim, outcome)
            except OWN as failure:
                self._fail(each, "settled", failure)

    def supervised(self, event: Event) -> None:
        """Something has happened to a supervised actor."""
        for each in self.supervised_by:
            try:
                each.supervised(event)
            except OWN as failure:
                self._fail(each, "supervised", failure)

    def _begin(self, watchers: list[Instruments], name: str, *args: Any) -> Tokens:
        tokens: Tokens = []
        for each in watchers:
            try:
                tokens.append((each, getattr(each, name)(*args)))
            except OWN as failure:
                self._fail(each, name, failure)
        return tokens

    def _fail(self, each: Instruments, name: str, failure: BaseException) -> None:
        """Log it once: it would be the same with the next message, and the next."""
        key = id(each), name
        if key in self._failed:
            return
        self._failed.add(key)
        # Neither its text nor its locals: messages hold secrets and bodies.
        lines = [f"{f.f_code.co_filename}:{line}" for f, line in walk_tb(failure.__traceback__)]
        with contextlib.suppress(*OWN):
            log.error(
                "instruments.failed",
                instruments=type(each).__name__,
                method=name,
                reason=type(failure).__name__,
                at=lines[-1] if lines else "",
            )


def _outcome_of(reply: ReplyFuture[Any]) -> tuple[Any, BaseException | None]:
    """What a reply was settled with. Nothing is caught for it: that could be an interrupt."""
    outcome = reply._outcome
    assert outcome is not None
    value, failure = outcome
    return value, None if failure is None else error_of(failure)


NOBODY = Instrumentation()
"""For those who were not told of any: nobody watches. Nothing is ever added to it."""
