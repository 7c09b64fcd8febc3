"""Endpoints that an application declares, and what becomes of those that are stored already."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from pollin_actors.endpoint import MAX_OLD_SECRETS
from pollin_actors.errors import InvalidValue
from pollin_actors.resources import Endpoint, OldSecret, Secret

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

    That is the time of its creation, what is consumed already, and old secrets, unless it has
    some of its own: an overlap does not end with a restart. A secret that is declared takes the
    place of the stored one, at once, if it is new. One that was replaced already is that of a
    declaration from before the rotation, and one that was generated is nobody's wish: the stored
    one stays.

    Arguments:
        stored: the endpoint as it is.
        declared: the one that is to take its place.
        now: nanoseconds since the epoch.
    """
    consumes = {*declared.consumes, *set(stored.consumes).intersection(declared.phases)}
    kept = declared.replace(created_at=stored.created_at, consumes=consumes)
    if declared.secret.is_generated or stored.has_replaced(declared.secret):
        # Its scheme may be another by now, which cannot have the stored one.
        with contextlib.suppress(InvalidValue):
            return kept.replace(secret=stored.secret, old_secrets=stored.old_secrets)
    # With those that were replaced, so that everybody knows which they are.
    old = [OldSecret(stored.secret, now), *stored.old_secrets]
    if declared.old_secrets:
        ended = [OldSecret(it.secret, min(it.until, now)) for it in old]
        old = [*declared.old_secrets, *ended]
    return kept.replace(old_secrets=_once(old, declared.secret)[:MAX_OLD_SECRETS])


def _once(old: list[OldSecret], present: Secret) -> list[OldSecret]:
    """Each old secret as it is named first, and the present one not at all."""
    seen = [present]
    found = []
    for item in old:
        if item.secret not in seen:
            seen.append(item.secret)
            found.append(item)
    return found
