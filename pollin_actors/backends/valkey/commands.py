"""Messages as calls of the server's functions, and replies as the operations answer them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn, TypeAlias

from pollin_actors import messages
from pollin_actors.backends.checks import (
    kinds_of,
    natural,
    note,
    pushes_of,
    seconds,
    text,
)
from pollin_actors.backends.valkey.encoding import (
    LARGEST,
    callbacks_of,
    digest,
    encoded,
    read_endpoint,
    records_of,
    time,
    write_body,
)
from pollin_actors.backends.values import encode
from pollin_actors.errors import (
    CallbackNotFound,
    ClaimLost,
    CursorConflict,
    EndpointNotFound,
    Full,
    InvalidValue,
    PhaseConflict,
    UnknownPhase,
    WrongSecret,
)
from pollin_actors.records import Claim, Claims, EndpointStats, RecordPage
from pollin_actors.resources import Callback, Outcome, Page, PushResult

__all__ = ["CALLS", "Call", "refuse"]

Arguments: TypeAlias = "list[bytes]"
Reply: TypeAlias = "Sequence[Any]"

# The server counts places with machine words, and nothing is so long.
_MOST = 1 << 31
# Positions are exact up to here.
_LAST = 1 << 53


class Call(NamedTuple):
    """What is asked of the server for a message.

    ``changes`` says that it is not to be repeated blindly if its answer is lost. ``read`` makes
    the operation's reply of the server's, given the name of the store for errors.
    """

    function: str
    endpoint_id: str
    arguments: Arguments
    changes: bool
    read: Callable[[Reply, str], Any]


def refuse(message: Any, reply: Reply) -> NoReturn:
    """Raise the error that a reply tells."""
    code = reply[0]
    endpoint_id = getattr(message, "endpoint_id", None) or message.endpoint.id
    if code == b"no endpoint":
        raise EndpointNotFound(endpoint_id)
    if code == b"no phase":
        phase = reply[1].decode("utf-8", "surrogatepass")
        raise UnknownPhase(endpoint_id, phase, reply[2].decode().split("\0"))
    if code == b"no callback":
        name = reply[1].decode("utf-8", "surrogatepass")
        raise CallbackNotFound(endpoint_id, name or message.key)
    if code == b"wrong secret":
        raise WrongSecret(endpoint_id)
    if code == b"full":
        raise Full(endpoint_id, reply[1].decode(), int(reply[2]), int(reply[3]))
    if code == b"elsewhere":
        raise PhaseConflict(endpoint_id, message.key, message.expect, reply[1].decode())
    if code == b"lost":
        raise ClaimLost(endpoint_id, message.key)
    if code == b"moved":
        raise CursorConflict(endpoint_id, message.name, message.expect, int(reply[1]))
    raise AssertionError(f"the server answered {code!r}")


# -- pushes ----------------------------------------------------------------------------------------


class _Pushed(NamedTuple):
    """Callbacks on their way, and what is wrong with those that cannot be stored."""

    callbacks: tuple[Callback, ...]
    problems: tuple[InvalidValue | None, ...]

    @classmethod
    def of(cls, callbacks: tuple[Callback, ...]) -> tuple[_Pushed, Arguments]:
        """Both, and the arguments."""
        problems: list[InvalidValue | None] = []
        arguments: Arguments = []
        for callback in callbacks:
            problem, body = None, b""
            if callback.created_at > LARGEST:
                problem = InvalidValue("Callback.created_at", f"at most {LARGEST}", "more")
            else:
                try:
                    body = write_body(callback.created_at, encode(callback.request))
                except InvalidValue as error:
                    problem = error
            problems.append(problem)
            arguments += (
                callback.id.encode(),
                callback.phase.encode(),
                (callback.parent or "").encode(),
                (callback.ordering_key or "").encode(),
                b"" if callback.not_before is None else time(callback.not_before),
                (callback.fence or "").encode(),
                (callback.origin or "").encode(),
                b"%d" % callback.size,
                body,
                b"" if problem is None else b"1",
            )
        return cls(callbacks, tuple(problems)), arguments

    def results(self, reply: Reply, label: str) -> tuple[PushResult, ...]:
        """What the server did with each."""
        if reply[0] == b"not storable":
            # What cannot be stored is no news to who may not push, nor if it is there already.
            problem = self.problems[int(reply[1])]
            assert problem is not None
            raise problem
        return tuple(
            [
                self._result(callback, one, label)
                for callback, one in zip(self.callbacks, reply[1:], strict=True)
            ]
        )

    def _result(self, callback: Callback, reply: Reply, label: str) -> PushResult:
        outcome = reply[0]
        if outcome == b"queued":
            root = reply[2].decode() or None
            phase = callback.phase
            if not phase or callback.attempts:
                callback = callback.with_phase(reply[1].decode())
            if callback.root != root:
                callback = callback.with_root(root)
            return PushResult(callback, Outcome.QUEUED)
        if outcome == b"known":
            (known,) = callbacks_of(reply, 1, label)
            return PushResult(known, Outcome.DUPLICATE)
        return PushResult(callback, Outcome.DUPLICATE)


def _push(message: messages.Push) -> Call:
    endpoint_id = text(message, "endpoint_id")
    pushed, arguments = _Pushed.of((message.callback,))
    secret = b"*" if message.trusted else digest(message.secret)
    return Call(
        "push",
        endpoint_id,
        [secret, *arguments],
        True,
        lambda reply, label: pushed.results(reply, label)[0],
    )


def _move_cursor(message: messages.MoveCursor) -> Call:
    endpoint_id, name = text(message, "endpoint_id"), note(message, "name", 200, 1)
    position = natural("MoveCursor.position", message.position)
    if position > LARGEST:
        raise InvalidValue("MoveCursor.position", f"at most {LARGEST}", "more")
    expect = b""
    if message.expect is not None:
        expect = b"%d" % natural("MoveCursor.expect", message.expect)
    pushed, arguments = _Pushed.of(pushes_of(message))
    values = [name.encode(), b"%d" % position, expect, *arguments]
    return Call("move_cursor", endpoint_id, values, True, pushed.results)


def _find_cursor(message: messages.FindCursor) -> Call:
    endpoint_id, name = text(message, "endpoint_id"), note(message, "name", 200, 1)
    return Call("find_cursor", endpoint_id, [name.encode()], False, _number)


# -- claims and moves ------------------------------------------------------------------------------


def _claim(message: messages.ClaimSlice) -> Call:
    endpoint_id = text(message, "endpoint_id")
    limit = min(natural("ClaimSlice.limit", message.limit), _MOST)
    lease, by = seconds(message, "lease"), note(message, "by", 200)
    values = [_phase(message), b"%d" % limit, time(lease), by.encode()]
    values.append(f"-{token_hex(8)}".encode())

    def read(reply: Reply, label: str) -> Claims:
        _, (till, next_at, *tokens), shown = reply
        claims = [
            Claim(endpoint_id, callback, token.decode(), int(till))
            for callback, token in zip(callbacks_of(shown, 0, label), tokens, strict=True)
        ]
        return Claims(claims, int(next_at) if next_at else None)

    return Call("claim", endpoint_id, values, True, read)


def _of_claim(message: Any, function: str, *more: bytes, read: Any = None) -> Call:
    endpoint_id = text(message, "endpoint_id")
    values = [encoded(text(message, "key")), encoded(text(message, "token")), *more]
    return Call(function, endpoint_id, values, True, read or _nothing)


def _ack(message: messages.Ack) -> Call:
    then, reason = _phase(message, "then"), note(message, "reason").encode()
    return _of_claim(message, "ack", then, reason, b"1" if message.discard else b"")


def _nack(message: messages.Nack) -> Call:
    dead, reason = _phase(message, "dead_letter"), note(message, "reason").encode()
    retry_in = seconds(message, "retry_in", zero=True)
    return _of_claim(message, "nack", dead, reason, time(retry_in) if retry_in else b"")


def _release(message: messages.Release) -> Call:
    return _of_claim(message, "release")


def _extend(message: messages.Extend) -> Call:
    return _of_claim(message, "extend", time(seconds(message, "lease")), read=_number)


def _update_phase(message: messages.UpdatePhase) -> Call:
    endpoint_id = text(message, "endpoint_id")
    key: object = message.key
    found = b"" if key is None else b"k" + encoded(text(message, "key"))
    values = [found, encoded(text(message, "phase")), _phase(message, "expect")]
    return Call("update_phase", endpoint_id, values, True, _only)


def _pop(message: messages.Pop) -> Call:
    return Call("pop", text(message, "endpoint_id"), [_key(message)], True, _maybe)


def _pop_slice(message: messages.PopSlice) -> Call:
    return Call("pop_slice", text(message, "endpoint_id"), _slice(message), True, _all)


def _delete(message: messages.DeleteCallback) -> Call:
    values = [encoded(text(message, "key"))]
    return Call("delete", text(message, "endpoint_id"), values, True, _truth)


def _reset(message: messages.Reset) -> Call:
    return Call("reset", text(message, "endpoint_id"), [], True, _number)


# -- reads -----------------------------------------------------------------------------------------


def _fetch(message: messages.Fetch) -> Call:
    values = [_key(message), b"1" if message.kept else b""]
    return Call("fetch", text(message, "endpoint_id"), values, False, _maybe)


def _fetch_slice(message: messages.FetchSlice) -> Call:
    values = [*_slice(message), b""]
    return Call("fetch_slice", text(message, "endpoint_id"), values, False, _all)


def _fetch_reverse(message: messages.FetchReverse) -> Call:
    values = [*_slice(message), b"1"]
    return Call("fetch_slice", text(message, "endpoint_id"), values, False, _all)


def _count(message: messages.Count) -> Call:
    return Call("count", text(message, "endpoint_id"), [_phase(message)], False, _number)


def _dump_page(message: messages.DumpPage) -> Call:
    endpoint_id = text(message, "endpoint_id")
    limit = natural("DumpPage.limit", message.limit, least=1)
    after = 0 if message.after is None else natural("DumpPage.after", message.after)
    values = [b"%d" % min(after, _LAST), b"%d" % min(limit, _MOST)]

    def read(reply: Reply, label: str) -> Page:
        return Page(callbacks_of(reply, 2, label), int(reply[1]) if reply[1] else None)

    return Call("dump_page", endpoint_id, values, False, read)


def _past_page(message: messages.PastPage) -> Call:
    endpoint_id = text(message, "endpoint_id")
    limit = natural("PastPage.limit", message.limit, least=1)
    after = 0 if message.after is None else natural("PastPage.after", message.after)
    since = 0 if message.since is None else natural("PastPage.since", message.since)
    until = None if message.until is None else natural("PastPage.until", message.until)
    values = [b"%d" % min(after, _LAST), b"%d" % min(limit, _MOST)]

    def read(reply: Reply, label: str) -> Page:
        wanted = [
            callback
            for callback in callbacks_of(reply, 2, label)
            if callback.created_at >= since and (until is None or callback.created_at < until)
        ]
        return Page(wanted, int(reply[1]) if reply[1] else None)

    return Call("past_page", endpoint_id, values, False, read)


def _history(message: messages.History) -> Call:
    endpoint_id = text(message, "endpoint_id")

    def read(reply: Reply, label: str) -> Any:
        return sorted(records_of(reply, 1, endpoint_id))

    return Call("history", endpoint_id, [encoded(text(message, "key"))], False, read)


def _history_page(message: messages.HistoryPage) -> Call:
    endpoint_id = text(message, "endpoint_id")
    after = natural("HistoryPage.after", message.after)
    limit = natural("HistoryPage.limit", message.limit, least=1)
    kinds = kinds_of(message)
    # With null characters around each, to be looked for; no kinds at all are two of them.
    names = "" if kinds is None else "\0".join(["", *kinds, ""])
    if kinds is not None and not kinds:
        names = "\0\0"
    values = [b"%d" % min(after, _LAST), b"%d" % min(limit, _MOST), names.encode()]

    def read(reply: Reply, label: str) -> RecordPage:
        cursor = int(reply[1])
        return RecordPage(records_of(reply, 2, endpoint_id), max(after, cursor))

    return Call("history_page", endpoint_id, values, False, read)


def _children(message: messages.Children) -> Call:
    values = [encoded(text(message, "key")), b"1" if message.deep else b""]
    return Call("children", text(message, "endpoint_id"), values, False, _all)


def _stats(message: messages.Stats) -> Call:
    def read(reply: Reply, label: str) -> EndpointStats:
        return EndpointStats(*map(int, reply[1:]))

    return Call("stats", text(message, "endpoint_id"), [], False, read)


def _find_endpoint(message: messages.FindEndpoint) -> Call:
    def read(reply: Reply, label: str) -> Any:
        return read_endpoint(reply[1], label) if reply[1] else None

    return Call("find_endpoint", text(message, "endpoint_id"), [], False, read)


# -- parts -----------------------------------------------------------------------------------------


def _phase(message: Any, field: str = "phase") -> bytes:
    """A phase with a letter before it, or nothing where all are meant."""
    if getattr(message, field) is None:
        return b""
    return b"p" + encoded(text(message, field))


def _key(message: Any) -> bytes:
    return b"" if message.key is None else b"k" + encoded(text(message, "key"))


def _slice(message: Any) -> Arguments:
    name = type(message).__name__
    offset = min(natural(f"{name}.offset", message.offset), _MOST)
    limit = min(natural(f"{name}.limit", message.limit), _MOST)
    return [_phase(message), b"%d" % offset, b"%d" % limit]


def _nothing(reply: Reply, label: str) -> None:
    return None


def _number(reply: Reply, label: str) -> int:
    return int(reply[1])


def _truth(reply: Reply, label: str) -> bool:
    return bool(reply[1])


def _all(reply: Reply, label: str) -> list[Callback]:
    return callbacks_of(reply, 1, label)


def _maybe(reply: Reply, label: str) -> Callback | None:
    found = callbacks_of(reply, 1, label)
    return found[0] if found else None


def _only(reply: Reply, label: str) -> Callback:
    return callbacks_of(reply, 1, label)[0]


CALLS: Mapping[type, Callable[[Any], Call]] = MappingProxyType(
    {
        messages.Push: _push,
        messages.MoveCursor: _move_cursor,
        messages.FindCursor: _find_cursor,
        messages.ClaimSlice: _claim,
        messages.Ack: _ack,
        messages.Nack: _nack,
        messages.Release: _release,
        messages.Extend: _extend,
        messages.UpdatePhase: _update_phase,
        messages.Pop: _pop,
        messages.PopSlice: _pop_slice,
        messages.DeleteCallback: _delete,
        messages.Reset: _reset,
        messages.Fetch: _fetch,
        messages.FetchSlice: _fetch_slice,
        messages.FetchReverse: _fetch_reverse,
        messages.Count: _count,
        messages.DumpPage: _dump_page,
        messages.PastPage: _past_page,
        messages.History: _history,
        messages.HistoryPage: _history_page,
        messages.Children: _children,
        messages.Stats: _stats,
        messages.FindEndpoint: _find_endpoint,
    }
)
"""What becomes one call of one function each."""
