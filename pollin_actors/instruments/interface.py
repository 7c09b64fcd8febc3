"""What can be watched: the interface of those who measure, count or trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pollin_actors.otp import Event
    from pollin_actors.records import Claim
    from pollin_actors.resources import Callback

__all__ = ["Call", "Instruments"]


class Call(NamedTuple):
    """One call of a handler's function."""

    handler: str
    """Its name."""
    endpoint_id: str
    claims: Sequence[Claim]
    """What it is given: one, or a batch."""


class Instruments:
    """Watches the inbox at work. Make a subclass with the methods that you need, and hand it to
    ``app.instruments.add``; nobody pays for methods that nobody has.

    Each is called on the thread that does the work, and several at once: it must be quick and
    never wait. What it raises disturbs nothing and is logged once (``instruments.failed``).
    Messages, callbacks and headers hold secrets and bodies: they belong in no log and no label.
    """

    def operated(
        self, message: Any, seconds: float, reply: Any, error: BaseException | None
    ) -> None:
        """A backend has carried out an operation that an actor gave it.

        Args:
            message: the operation, of ``pollin_actors.messages``.
            seconds: from the actor's turn to the answer.
            reply: what the backend answered.
            error: why it did not; a refusal such as ``WrongSecret``, or ``BackendUnavailable``.
        """

    def sending(self, endpoint_id: str, callback: Callback) -> Any:
        """A callback is about to be pushed by ``app.callbacks.push``; on the caller's thread.

        Returns:
            Anything: ``sent`` gets it back.
        """

    def sent(self, token: Any, result: Any, error: BaseException | None) -> None:
        """It was pushed, or was not; on whichever thread that is known first.

        Args:
            token: what ``sending`` returned.
            result: the ``PushResult``.
            error: why there is none.
        """

    def receiving(self, headers: Any) -> Any:
        """A receiver has got a request, which nobody has verified yet.

        Args:
            headers: pairs of bytes.

        Returns:
            Anything: ``received`` gets it back.
        """

    def received(
        self, token: Any, endpoint_id: str | None, status: int, outcome: str, seconds: float
    ) -> None:
        """A receiver has answered a request, or is about to.

        Args:
            token: what ``receiving`` returned.
            endpoint_id: whose; None where there is no such endpoint, or nobody knows: what a
                stranger has made up does not come here.
            status: of the answer; 0 if the sender did not wait for one.
            outcome: ``queued``, ``duplicate``, ``accepted`` (it is on its way, or is verified
                later), ``replied`` (the sender has only asked), ``refused`` or ``gone``.
            seconds: from the request's head to the answer.
        """

    def calling(self, call: Call) -> Any:
        """A handler's function is about to be called: on its thread or loop, in its context.

        Returns:
            Anything: ``called`` gets it back.
        """

    def called(self, token: Any, call: Call, result: Any, error: BaseException | None) -> None:
        """It has returned, or raised; in the same context.

        Args:
            token: what ``calling`` returned.
            call: the same as there.
            result: what the function returned.
            error: what it raised.
        """

    def handled(self, call: Call, seconds: float, outcome: str) -> None:
        """A consumer knows that a call has ended.

        Args:
            call: the call.
            seconds: that it took.
            outcome: ``returned``, ``raised`` or ``timed_out``.
        """

    def settled(self, handler: str, claim: Claim, outcome: str) -> None:
        """What has become of a callback that a handler had claimed is stored.

        Args:
            handler: its name.
            claim: what it had.
            outcome: ``acknowledged``, ``failed`` (and is tried again), ``dead``, ``discarded``,
                ``released`` (it was given back before work had begun), or ``lost``: the lease had
                ended.
        """

    def supervised(self, event: Event) -> None:
        """Something has happened to a supervised actor; a moment afterwards, one by one."""
