"""What a backend has to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Announces", "Backend", "BackendClass", "StoredVersion"]


class StoredVersion(NamedTuple):
    """The version of what keeps a store in order: its schema, or whatever else there is.

    Numbers go up. Texts are shown as they are.
    """

    found: int | str | None
    """What is there now; None: nothing yet."""
    wanted: int | str
    """What ``open`` brings it to."""


@runtime_checkable
class Backend(Protocol):
    """Stores endpoints and callbacks and executes the messages of :mod:`pollin_actors.messages`.

    For implementors:

    * Every operation is atomic: it takes effect as a whole or not at all, also when the process
      ends in the middle. What a message does, and what its reply is, is said at the message.
    * ``execute`` is called from any thread, and from several at once.
    * Errors are of the :class:`pollin_actors.errors.PollinError` family. A failure of the engine
      is ``BackendUnavailable``, without credentials in its text; the engine's own exception is
      its cause.
    * A message of an unknown type raises ``InvalidValue`` that names the type.
    * Messages executed by one thread take effect in the order in which it sent them.
    * A backend may have an attribute ``durability``: a short text that says what its settings keep
      when the engine stops or crashes, ``"unknown"`` if that cannot be told. Readiness shows it.
    * A backend may have a method ``stored_version()``, which answers a :class:`StoredVersion`, or
      raises ``BackendUnavailable`` if it cannot be told. It changes nothing, and works whether or
      not the backend is open. ``pollin migrate`` and ``pollin doctor`` show it.

    :mod:`pollin_actors.backends.conformance` checks all of it.
    """

    @property
    def shared(self) -> bool:
        """Whether several processes may use one store."""
        ...

    @property
    def durable(self) -> bool:
        """Whether what was answered outlives the process: a new backend on the store finds it."""
        ...

    def open(self, time_ns: Callable[[], int]) -> None:
        """Make ready for use; called once before the first message, and again after ``close``.

        Arguments:
            time_ns: the clock for expiry and for the memory of ids: nanoseconds since the epoch.

        Raises:
            BackendUnavailable: the engine cannot be reached.
        """
        ...

    def execute(self, message: Any) -> Any:
        """Carry out a message and return its reply, or a future that will hold it.

        Raises:
            PollinError: the operation was refused or failed; nothing was changed.
        """
        ...

    def close(self) -> None:
        """Finish what was accepted and let go of the engine. Closing twice does nothing."""
        ...


@runtime_checkable
class Announces(Protocol):
    """What a backend may have besides: it tells at once what other processes have done.

    Who waits for work, follows a history or remembers an endpoint then hears of it without
    looking. The application looks every ``Settings.poll_interval`` seconds all the same, so an
    announcement may be lost; one too many does no harm.
    """

    def announce_to(self, announce: Callable[[str | None, bool], None]) -> None:
        """Have ``announce(endpoint_id, revised)`` called after changes; called before ``open``.

        It is called on any thread, one of the backend's as a rule, never waits and never raises.
        ``endpoint_id`` is where something has changed, None if it may be anywhere, as after a
        connection was lost. ``revised`` is whether the endpoint itself may have changed, and not
        only what is queued there. What this process did may be told as well, or be left out.
        """
        ...


class BackendClass(Protocol):
    """What an entry point of the group ``pollin_actors.backends`` names; it is found by scheme."""

    def from_url(self, url: str, /) -> Backend:
        """Make a backend that is not open yet.

        Raises:
            InvalidValue: the URL is not one of this backend; the text holds no credentials.
        """
        ...
