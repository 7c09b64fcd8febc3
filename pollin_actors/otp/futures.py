"""Reply futures: Pykka's, without a lock of their own until somebody really waits.

An outcome is decided once, by one atomic operation on a dict of the future's own; waiters are
added first and look for the outcome afterwards, so none can be missed. Nothing needs a lock, and
therefore an interrupt at any point leaves no future half settled.

The instance's ``__dict__`` would do as well, but must not be touched: until somebody asks for it,
CPython 3.11 and 3.12 keep attributes without one, and two threads that ask at the same moment can
both be given one, which destroys memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import time
from collections.abc import Callable, Generator, Iterable
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import pykka
import structlog

from pollin_actors.otp.errors import AlreadySettled, DeadlineExceeded, OtpError
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.waiting import CallbackWaiter, Waiter, block_on

if TYPE_CHECKING:
    from types import TracebackType

    from pollin_actors.otp.mailbox import Mailbox

__all__ = ["DerivedFuture", "ReplyFuture"]

T = TypeVar("T")
J = TypeVar("J")
M = TypeVar("M")
R = TypeVar("R")

ExcInfo: TypeAlias = "tuple[type[BaseException] | None, BaseException | None, TracebackType | None]"
Outcome: TypeAlias = "tuple[Any, ExcInfo | None]"

log = structlog.get_logger("pollin_actors.otp")


class ReplyFuture(pykka.Future[T]):
    """An answer that is there now or will be later.

    ``get()`` waits, ``await`` waits without blocking the event loop, ``add_done_callback`` is told.
    It can be settled once; whoever comes second gets ``AlreadySettled``.

    A call's deadline settles it only if somebody waits by then, with ``get()`` or ``await``, or
    if the message is still queued when its turn comes: callbacks alone let no deadline pass.
    """

    # Class-level defaults: a future that a caller's own turn settles stores nothing else.
    _outcome: Outcome | None = None
    # What several threads meet in; None as long as one thread only knows the future.
    _box: dict[str, Any] | None = None
    _target: Mailbox | None = None
    _via: ReplyFuture[Any] | None = None
    # Work that a thread may do instead of waiting idly, given the seconds that it would wait.
    _help: Callable[[float | None], object] | None = None
    _asked: tuple[str, float] | None = None
    _deadline: float | None = None
    _get_hook: Callable[[float | None], T] | None = None
    _hook_guard: Guard

    def __init__(self) -> None:
        # Pykka's own __init__ only sets defaults that stand above.
        self._box = {}

    # -- settling ----------------------------------------------------------------------------------

    def _settle(self, outcome: Outcome) -> bool:
        """Store the outcome unless there is one, wake who waits; say whether it was ours."""
        box = self._box
        if box is None:
            if self._outcome is None:
                self._outcome = outcome
            return self._outcome is outcome
        first: Outcome = box.setdefault("outcome", outcome)
        self._outcome = first
        self._fire()
        return first is outcome

    def _fail(self, error: BaseException) -> bool:
        return self._settle((None, (type(error), error, error.__traceback__)))

    def _fire(self) -> None:
        waiters = self._box.get("waiters") if self._box is not None else None
        if waiters is not None:
            # No tuple: CPython 3.11 makes it after it has looked where the list's array lies, and
            # a collection in between lets another thread's append move that.
            told = True
            for waiter in list(waiters):
                if waiter.fire() is False:
                    told = False
            # Only then let go of: they may hold this future, and would keep a large answer alive
            # until the garbage collector comes. Who was added meanwhile has fired itself.
            if told:
                waiters.clear()

    def set(self, value: T | None = None) -> None:
        """Settle with a value.

        Raises:
            AlreadySettled: it is settled already, or has a get hook.
        """
        if self._get_hook is not None or not self._settle((value, None)):
            raise AlreadySettled("this future has its outcome already; set it once")

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        """Settle with an exception: the one given as ``sys.exc_info()`` gives it, or the current.

        Raises:
            AlreadySettled: it is settled already, or has a get hook.
        """
        info = sys.exc_info() if exc_info is None else exc_info
        if self._get_hook is not None or not self._settle((None, info)):
            raise AlreadySettled("this future has its outcome already; set it once")

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """Compute the value by ``func(timeout)`` at the first ``get()``, as Pykka does.

        Raises:
            AlreadySettled: it is settled already.
        """
        if self._outcome is not None:
            raise AlreadySettled("this future has its outcome already; a hook would never run")
        self._hook_guard = Guard()
        self._get_hook = func

    # -- reading -----------------------------------------------------------------------------------

    def done(self) -> bool:
        """Whether the outcome is there, so that ``get()`` would not wait."""
        return self._outcome is not None

    def get(self, *, timeout: float | None = None) -> T:
        """The value, or raise the exception that it was settled with.

        Args:
            timeout: seconds to wait at most; None waits until the call's own deadline, if it has
                one, else for ever.

        Raises:
            pykka.Timeout: ``timeout`` passed. The call goes on; ``get()`` may be tried again.
            DeadlineExceeded: the call's deadline passed.
            WouldBlock, CallCycle, PoolExhausted: waiting here could not end well.
        """
        outcome = self._outcome
        if outcome is None:
            outcome = self._await_outcome(timeout)
        value, failure = outcome
        if failure is None:
            return cast("T", value)
        raise error_of(failure)

    def _await_outcome(self, timeout: float | None) -> Outcome:
        if self._get_hook is not None:
            hook = self._get_hook
            self._hook_guard.run(self._run_hook, hook, timeout)
        else:
            remaining = self._remaining()
            limit = timeout if remaining is None else remaining
            if timeout is not None and remaining is not None:
                limit = min(timeout, remaining)
            if limit is not None and limit <= 0.0:
                settled = self._outcome is not None
            else:
                settled = block_on(self, limit)
            if not settled:
                if remaining is None or (timeout is not None and timeout < remaining):
                    raise pykka.Timeout(f"{timeout} seconds")
                # For good: a reply that comes later is dropped.
                self._fail(self._deadline_error())
        outcome = self._outcome
        assert outcome is not None
        return outcome

    def _run_hook(self, hook: Callable[[float | None], T], timeout: float | None) -> None:
        if self._outcome is None:
            self._settle((hook(timeout), None))

    def _remaining(self) -> float | None:
        """Seconds left until the call's deadline; None without one."""
        if self._deadline is None:
            return None
        runtime = self._target.runtime if self._target is not None else None
        now = runtime.clock.monotonic() if runtime is not None else time.monotonic()
        return self._deadline - now

    def _is_late(self) -> bool:
        """Whether the call's deadline has passed."""
        remaining = self._remaining()
        return remaining is not None and remaining <= 0.0

    def _deadline_error(self) -> DeadlineExceeded:
        message, timeout = self._asked or ("a message", 0.0)
        label = self._target.label if self._target is not None else "the actor"
        return DeadlineExceeded(
            f"{label} did not answer {message} within {timeout:g} s; it is not handled any more "
            f"unless its turn had begun. Try again, or give a longer timeout="
        )

    # -- being told --------------------------------------------------------------------------------

    def _add_waiter(self, waiter: Waiter) -> None:
        if self._box is None:
            self._box = {}  # nobody else knows this future yet
        waiters: list[Waiter] = self._box.setdefault("waiters", [])
        waiters.append(waiter)
        if self._outcome is not None:
            waiter.fire()  # the settler may have looked before we stood in the list
            self._remove_waiter(waiter)

    def _remove_waiter(self, waiter: Waiter) -> None:
        if self._box is not None:
            with contextlib.suppress(ValueError):
                self._box.get("waiters", []).remove(waiter)

    def add_done_callback(self, callback: Callable[[ReplyFuture[T]], object]) -> None:
        """Call ``callback(self)`` once the future is settled; at once if it is already.

        It runs in the thread that settles, so it must be quick and must not wait. An exception
        in it is logged (``future.callback_failed``) and goes no further. One that an interrupt of
        that thread cuts short is called again.
        """
        self._add_waiter(CallbackWaiter(self, callback))

    def __await__(self) -> Generator[Any, None, T]:
        """Wait on the running event loop without blocking it.

        Raises:
            DeadlineExceeded: the call's deadline passed.
        """
        if self._outcome is None:
            yield from self._await_on_loop()
        return self.get(timeout=0)

    __iter__ = __await__  # Pykka: `yield from future`

    def _await_on_loop(self) -> Generator[Any, None, None]:
        runtime = self._target.runtime if self._target is not None else None
        if runtime is not None and runtime.scheduler.simulated:
            with contextlib.suppress(pykka.Timeout):
                self._await_outcome(None)
            return
        loop = asyncio.get_running_loop()
        if self._get_hook is not None:
            # A hook is somebody's blocking code: it gets a thread of the loop's executor.
            yield from loop.run_in_executor(None, _swallow, self.get).__await__()
            return
        arrived: asyncio.Future[None] = loop.create_future()
        waiter = _LoopWaiter(loop, arrived)
        timer = None
        remaining = self._remaining()
        if remaining is not None:
            timer = loop.call_later(max(remaining, 0.0), waiter.arrive)
        self._add_waiter(waiter)
        try:
            yield from arrived.__await__()
        finally:
            self._remove_waiter(waiter)
            if timer is not None:
                timer.cancel()
        if self._outcome is None:
            self._fail(self._deadline_error())

    # -- deriving ----------------------------------------------------------------------------------

    def map(self, func: Callable[[T], M]) -> ReplyFuture[M]:
        """A future of ``func(value)``. ``func`` runs where the new future is waited for."""
        return DerivedFuture((self,), lambda values: func(values[0]))

    def filter(
        self: ReplyFuture[Iterable[J]], func: Callable[[J], bool]
    ) -> ReplyFuture[Iterable[J]]:
        """A future of the list of those items that ``func`` accepts."""
        return DerivedFuture((self,), lambda values: [item for item in values[0] if func(item)])

    def join(self, *futures: pykka.Future[Any]) -> ReplyFuture[Iterable[Any]]:
        """A future of the list of this value and the others', in that order."""
        return DerivedFuture((self, *futures), list)

    def reduce(
        self: ReplyFuture[Iterable[J]], func: Callable[[R, J], R], *args: R
    ) -> ReplyFuture[R]:
        """A future of the items folded from the left, beginning with the given value if any."""
        return DerivedFuture((self,), lambda values: functools.reduce(func, values[0], *args))


class DerivedFuture(ReplyFuture[T]):
    """The result of a function of other futures' values, computed once, where it is waited for."""

    def __init__(
        self,
        sources: tuple[pykka.Future[Any], ...],
        compute: Callable[[list[Any]], T],
        recover: Callable[[BaseException], T] | None = None,
    ) -> None:
        super().__init__()
        self._sources = sources
        self._compute = compute
        self._recover = recover
        self._guard = Guard()

    def set(self, value: T | None = None) -> None:
        raise AlreadySettled("a derived future gets its outcome from the futures it came from")

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        raise AlreadySettled("a derived future gets its outcome from the futures it came from")

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        raise AlreadySettled("a derived future gets its outcome from the futures it came from")

    def done(self) -> bool:
        """Whether ``get()`` would not wait."""
        if self._outcome is not None:
            return True
        return all(isinstance(f, ReplyFuture) and f.done() for f in self._sources)

    def _await_outcome(self, timeout: float | None) -> Outcome:
        until = None if timeout is None else time.monotonic() + timeout
        for source in self._sources:
            left = None if until is None else max(until - time.monotonic(), 0.0)
            try:
                source.get(timeout=left)
            except pykka.Timeout:
                if not isinstance(source, ReplyFuture) or not source.done():
                    raise
            except OtpError:
                if not isinstance(source, ReplyFuture) or not source.done():
                    raise  # WouldBlock and its like are about this wait, not about the answer
            except Exception:
                continue  # found again in _finish, as the outcome
        self._guard.run(self._finish)
        self._fire()
        assert self._outcome is not None
        return self._outcome

    def _finish(self) -> None:
        """Every source is settled: compute, once."""
        if self._outcome is not None:
            return
        try:
            try:
                values = [source.get(timeout=0) for source in self._sources]
            except Exception as error:
                if self._recover is None:
                    raise
                self._store((self._recover(error), None))
            else:
                self._store((self._compute(values), None))
        except Exception:
            self._store((None, sys.exc_info()))
        except BaseException:
            if current_thread() is main_thread():
                raise  # perhaps an interrupt
            self._store((None, sys.exc_info()))

    def _store(self, outcome: Outcome) -> None:
        """Settle without waking anybody: under the guard that could take another's guard."""
        assert self._box is not None
        self._outcome = self._box.setdefault("outcome", outcome)

    def _await_on_loop(self) -> Generator[Any, None, None]:
        for source in self._sources:
            if isinstance(source, ReplyFuture):
                if not source.done():
                    yield from source._await_on_loop()
            else:
                loop = asyncio.get_running_loop()
                yield from loop.run_in_executor(None, _swallow, source.get).__await__()
        self._guard.run(self._finish)
        self._fire()

    def _add_waiter(self, waiter: Waiter) -> None:
        super()._add_waiter(waiter)
        if self._outcome is None:
            for source in self._sources:
                if isinstance(source, ReplyFuture):
                    source._add_waiter(_SourceWaiter(self))

    def _source_settled(self) -> None:
        # Who holds the guard computes already, and tells the waiters. It may wait for other work of
        # the thread that settles: waiting for it here could never end.
        if self.done() and self._guard.attempt(self._finish):
            self._fire()


def error_of(failure: ExcInfo) -> BaseException:
    """The exception that a future was settled with."""
    kind, error, traceback = failure
    if error is None:
        assert kind is not None
        error = kind()
    # The traceback of the failure, not of whoever read it before us.
    return error.with_traceback(traceback)


def _swallow(get: Callable[[], object]) -> None:
    """Run a blocking get for its effect; the outcome is read from the future afterwards."""
    with contextlib.suppress(Exception):
        get()


class _SourceWaiter:
    __slots__ = ("_derived",)

    def __init__(self, derived: DerivedFuture[Any]) -> None:
        self._derived = derived

    def fire(self) -> None:
        self._derived._source_settled()


class _LoopWaiter:
    __slots__ = ("_arrived", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, arrived: asyncio.Future[None]) -> None:
        self._loop = loop
        self._arrived = arrived

    def fire(self) -> None:
        # A closed loop has nobody left to wake.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.arrive)

    def arrive(self) -> None:
        if not self._arrived.done():
            self._arrived.set_result(None)
