"""What every line says that is logged while a callback is worked on, whoever logs it.

It is bound as ``structlog.contextvars`` does, so that hosts see it who have put
``structlog.contextvars.merge_contextvars`` among their processors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context, ContextVar, Token
from typing import TYPE_CHECKING, Any

from structlog.contextvars import bind_contextvars, reset_contextvars

from pollin_actors.instruments.trace_headers import PARENT, read_parent
from pollin_actors.request import Request

if TYPE_CHECKING:
    from pollin_actors.records import Claim

__all__ = ["bind_call", "trace_id_of", "within_request"]


def _variables() -> dict[str, ContextVar[Any]]:
    """The variables in which structlog keeps them: to set one takes a tenth of binding it."""
    names = ("handler", "endpoint_id", "callback_id", "callbacks", "attempt", "trace_id")
    return {name: token.var for name, token in bind_contextvars(**dict.fromkeys(names)).items()}


_HANDLER, _ENDPOINT, _CALLBACK, _CALLBACKS, _ATTEMPT, _TRACE = Context().run(_variables).values()


def trace_id_of(request: Any) -> str | None:
    """The id of the trace that a request belongs to, as its ``traceparent`` says, if it has one."""
    if request.__class__ is not Request:
        return None
    parent = None
    for name, value in request.headers:
        # Its length first: most headers are passed over without making anything.
        if len(name) == 11 and name.lower() == PARENT:
            if parent is not None:
                return None  # which of them it was sent with, nobody knows
            parent = value
    return None if parent is None else read_parent(parent)


def bind_call(handler: str, claims: Sequence[Claim]) -> None:
    """Bind what a handler's function is called with, in the present context.

    Each call has a context of its own, which is thrown away with it: there is nothing to clear.
    """
    claim = claims[0]
    _HANDLER.set(handler)
    _ENDPOINT.set(claim.endpoint_id)
    if len(claims) > 1:
        _CALLBACKS.set(len(claims))
        return
    callback = claim.callback
    _CALLBACK.set(callback.id)
    _ATTEMPT.set(callback.attempts)
    trace_id = trace_id_of(callback.request)
    if trace_id is not None:
        _TRACE.set(trace_id)


def within_request(
    endpoint_id: str, callback_id: str, request: Any, function: Callable[..., Any], *args: Any
) -> None:
    """Call code of the host while a request is received, with what it is about bound.

    The context is the host's: whatever happens, it is afterwards as it was.
    """
    trace_id = trace_id_of(request)
    more = {} if trace_id is None else {"trace_id": trace_id}
    tokens: dict[str, Token[Any]] = {}
    try:
        tokens.update(bind_contextvars(endpoint_id=endpoint_id, callback_id=callback_id, **more))
        function(*args)
    finally:
        reset_contextvars(**tokens)
