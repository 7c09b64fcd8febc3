"""Adoption: actor classes written for plain Pykka, as children of our supervisors.

A plain ``pykka.ThreadingActor`` runs a loop of its own, which says nothing of how it ended. So a
supervised one runs on our runtime, in a subclass of its class: with a thread of its own as before,
and with an exit record that its supervisor can trust.
"""

from __future__ import annotations

import copyreg
import inspect
import logging
import math
import re
import types
from collections.abc import Iterator
from typing import Any, TypeVar, cast

import pykka
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr

from pollin_actors.otp.actor import _PYKKA_MESSAGES, Actor, BlockingActor, Ref
from pollin_actors.otp.cell import Cell
from pollin_actors.otp.errors import InvalidSpec
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.handlers import Handlers

__all__ = ["adopt"]

A = TypeVar("A", bound=pykka.Actor)

logger = logging.getLogger("pykka")

_CACHE = "_pollin_adopted"
_CELL = "_pollin_cell"

_guard = Guard()
_metaclasses: dict[type, type] = {}


def adopt(actor_class: type[A]) -> type[A]:
    """The class to start supervised actors from, where theirs was written for plain Pykka.

    It is a subclass of the given one: ``__init__``, the hooks, proxies, ``actor_ref``, ``stop``
    and ``use_daemon_thread`` work as before. What differs is the rule of our actors: an exception
    in a handler crashes the actor also if somebody asked, unless the class lists it in
    ``replies``; and any exception, ``SystemExit`` as well, ends this actor only.

    ```python
    ChildSpec(id="player", start=partial(adopt(Player), "sdb"))
    ```

    Of the names that our actors have beside Pykka's, a class may define ``replies``,
    ``ignored_in_tell``, ``mailbox_bound`` and ``idle_timeout`` as for an ``Actor``. Its methods
    go before ours of the same name; ``on_continue`` is not called, ``on_stop`` gets no argument,
    ``on_info`` is called for what the actor has asked of us (timers, monitors) and
    ``format_state`` at a crash.

    Args:
        actor_class: any subclass of ``pykka.Actor``; our own are returned unchanged.

    Returns:
        The same class for the same argument.

    Raises:
        InvalidSpec: it is no actor class; it has an attribute of a name that the runtime needs;
            or it cannot be subclassed.
    """
    if not (isinstance(actor_class, type) and issubclass(actor_class, pykka.Actor)):
        raise InvalidSpec("adopt", "a class of actors, a subclass of pykka.Actor", actor_class)
    if issubclass(actor_class, Actor):
        return actor_class
    adopted: type[A] = vars(actor_class).get(_CACHE) or _guard.run(_adopted, actor_class)
    return adopted


class _Adopted(BlockingActor):
    """What adopted classes inherit, behind the user's own classes."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Past that of Handlers: which hooks are called does not depend on the class.
        super(Handlers, cls).__init_subclass__(**kwargs)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        if _CELL not in vars(self):
            super().__init__()
            cell = vars(self)[_CELL]
            for name in _SETTINGS & set(Cell.__slots__):
                # Of the class: the actor's own attribute of that name may be anything.
                setattr(cell, name, getattr(type(self), name))

    @property
    def _cell(self) -> Cell:
        # Made when first needed: an __init__ that calls Pykka's by name passes ours by.
        if _CELL not in vars(self):
            _Adopted.__init__(self)
        return cast("Cell", vars(self)[_CELL])

    @_cell.setter
    def _cell(self, cell: Cell) -> None:
        if not isinstance(cell, Cell):
            raise InvalidSpec(
                f"{type(self).__name__}._cell",
                "an attribute of another name: the runtime needs this one",
                cell,
            )
        vars(self)[_CELL] = cell

    @property
    def _actor_ref(self) -> Ref[Any]:
        return self._cell.ref

    @_actor_ref.setter
    def _actor_ref(self, ref: pykka.ActorRef[Any]) -> None:
        if isinstance(ref, Ref):  # Pykka's own __init__ brings one that could not reach us
            self._cell.ref = ref

    @property
    def actor_urn(self) -> str:
        """A universally unique name for this incarnation."""
        return self._cell.ref.actor_urn

    @actor_urn.setter
    def actor_urn(self, urn: str) -> None:
        self._cell.urn = urn

    @property
    def actor_inbox(self) -> Any:
        """The actor's mailbox."""
        return self._cell.mailbox

    @actor_inbox.setter
    def actor_inbox(self, inbox: object) -> None:
        """Set by Pykka's own ``__init__``: without effect."""

    @property
    def actor_stopped(self) -> Any:
        """Set as soon as the actor handles nothing more."""
        return self._cell.stopped

    @actor_stopped.setter
    def actor_stopped(self, event: object) -> None:
        """Set by Pykka's own ``__init__``: without effect."""

    def _receive(self, message: Any) -> Any:
        if message.__class__ in _PYKKA_MESSAGES and not isinstance(
            message, ProxyCall | ProxyGetAttr | ProxySetAttr
        ):
            # Not self.stop(): the class may have its own, which may have sent this.
            return Actor.stop(self)
        return super()._receive(message)

    def _unregister(self) -> None:
        # Not by self._registered, a name that the class may use for its own ends.
        if self._cell.supervisor is None:
            pykka.ActorRegistry.unregister(self.actor_ref)
            logger.debug("Stopped %s", self)


# As plain Pykka calls it, whatever arguments a class gave it for its own ends.
_Adopted._stop_takes_reason = False

_OURS = [base for base in _Adopted.__mro__ if base.__module__.startswith("pollin_actors.")]

# What the runtime reads from an actor's class.
_SETTINGS = frozenset(
    name
    for base in _OURS
    for name in inspect.get_annotations(base)
    if not name.startswith("_") and not hasattr(pykka.ThreadingActor, name)
)

# Private to our actors: the runtime finds its own under these names.
_RESERVED = frozenset(
    name
    for base in _OURS
    for name in vars(base)
    if re.match(r"_(?!_)", name) and not hasattr(pykka.Actor, name)
)


def _adopted(actor_class: type[A]) -> type[A]:
    known: type[A] | None = vars(actor_class).get(_CACHE)
    if known is not None:
        return known
    _check(actor_class)
    # What a runtime on Pykka consists of is ours, whatever runtime the class was written for.
    own = {name: _static(BlockingActor, name) for name in pykka.Actor.__abstractmethods__}
    own["__module__"] = actor_class.__module__
    own["__qualname__"] = actor_class.__qualname__
    own["__doc__"] = actor_class.__doc__
    try:
        adopted = types.new_class(
            actor_class.__name__,
            (actor_class, _Adopted),
            {"metaclass": _metaclass(type(actor_class))},
            lambda namespace: namespace.update(own),
        )
    except TypeError as error:
        raise InvalidSpec("adopt", "a class that can be subclassed", actor_class) from error
    # Past a metaclass that forbids it. Kept by the class itself, so both go together.
    type.__setattr__(actor_class, _CACHE, adopted)
    return cast("type[A]", adopted)


def _check(actor_class: type[pykka.Actor]) -> None:
    for base, name, value in _of_the_user(actor_class):
        where = f"{base.__name__}.{name}"
        if name in _RESERVED:
            raise InvalidSpec(where, "another name: the runtime needs this one", value)
        if name in ("replies", "ignored_in_tell"):
            if not _are_exceptions(value):
                raise InvalidSpec(where, "a tuple of Exception classes, or another name", value)
        elif name in ("mailbox_bound", "idle_timeout"):
            if value is not None and not _is_positive(value):
                raise InvalidSpec(where, "a number > 0 or None, or another name", value)
        elif name in _SETTINGS and value != getattr(BlockingActor, name):
            expected = f"{getattr(BlockingActor, name)!r} in an adopted class, or another name"
            raise InvalidSpec(where, expected, value)


def _of_the_user(actor_class: type[pykka.Actor]) -> Iterator[tuple[type, str, Any]]:
    for base in actor_class.__mro__:
        if base is not object and not base.__module__.startswith("pykka."):
            for name, value in vars(base).items():
                yield base, name, value


def _are_exceptions(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(item, type) and issubclass(item, Exception) for item in value
    )


def _is_positive(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < math.inf  # type: ignore[operator]


def _static(owner: type, name: str) -> Any:
    return next(vars(base)[name] for base in owner.__mro__ if name in vars(base))


def _metaclass(original: type) -> type:
    """One of our own, so that adopted classes are pickled as what they were adopted from."""
    known = _metaclasses.get(original)
    if known is None:
        known = _metaclasses[original] = type(original.__name__, (original,), {})
        copyreg.pickle(known, _reduce)
    return known


def _reduce(adopted: type[Any]) -> tuple[Any, ...]:
    return adopt, (adopted.__bases__[0],)
