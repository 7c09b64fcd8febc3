"""Endpoints that an application declares, and what becomes of those that are stored already."""

from __future__ import annotations

from collections.abc import Iterable

from pollin_actors.errors import InvalidValue
from pollin_actors.resources import Endpoint

__all__ = ["check_declared", "declared_over"]


def check_declared(endpoints: Iterable[object]) -> None:
    """See whether these can be declared.

    Raises:
        InvalidValue: one is no endpoint, or two have the same id.
    """
    seen: set[str] = set()
    for endpoint in endpoints:
        if not isinstance(endpoint, Endpoint):
            raise InvalidValue("endpoints", "Endpoint instances", repr(endpoint))
        if endpoint.id in seen:
            raise InvalidValue("endpoints", "ids that differ", repr(endpoint.id))
        seen.add(endpoint.id)


def declared_over(stored: Endpoint, declared: Endpoint, now: int) -> Endpoint:
    """The declared endpoint, with what it keeps of the one that is stored.

    That is the time of its creation, what is consumed already, and, unless it has old secrets of
    its own, those that are still valid: an overlap does not end with a restart. The stored secret
    is none of them: who declares another wants that one.

    Arguments:
        stored: the endpoint as it is.
        declared: the one that is to take its place.
        now: nanoseconds since the epoch.
    """
    consumes = {*declared.consumes, *set(stored.consumes).intersection(declared.phases)}
    old = declared.old_secrets or tuple(
        [it for it in stored.old_secrets if it.until > now and it.secret != declared.secret]
    )
    return declared.replace(created_at=stored.created_at, consumes=consumes, old_secrets=old)
