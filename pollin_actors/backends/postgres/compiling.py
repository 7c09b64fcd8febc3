"""How a group of messages becomes calls that need no conversation with the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from pollin_actors.backends.postgres.operations import Operations
from pollin_actors.backends.postgres.shots import Shot
from pollin_actors.errors import PollinError

if TYPE_CHECKING:
    from pollin_actors.backends.postgres.rows import Terms
    from pollin_actors.otp.futures import ReplyFuture

__all__ = ["Job", "acks_from", "pushes_from", "shots_of"]

_SINGLE: Mapping[Callable[..., Any], Callable[[Operations, Any, Terms], Shot]] = MappingProxyType(
    {
        Operations.pop: Operations.pop_shot,
        Operations.claim_slice: Operations.claim_shot,
        Operations.nack: Operations.nack_shot,
        Operations.release: Operations.release_shot,
        Operations.extend: Operations.extend_shot,
    }
)


class Job(NamedTuple):
    """A message that was accepted."""

    run: Callable[[Operations, Any, Any], Any]
    message: Any
    stored: Any
    future: ReplyFuture[Any]


def shots_of(operations: Operations, group: Sequence[Job]) -> list[Shot] | None:
    """The calls that carry out all of a group with what is remembered of endpoints; None if they
    cannot. What is refused is never refused here: what is remembered may be out of date."""
    known = operations._known
    shots: list[Shot] = []
    number = 0

    def terms_of(message: Any) -> Terms | None:
        return known.get(message.endpoint_id)

    try:
        while number < len(group):
            job = group[number]
            shot = None
            if job.run is Operations.push:
                shot = operations.push_shot(pushes_from(group, number), terms_of, True)
            elif job.run is Operations.ack or job.run in _SINGLE:
                terms = known.get(job.message.endpoint_id)
                if terms is not None and job.run is Operations.ack:
                    acks = acks_from(group, number, terms.endpoint.id)
                    shot = operations.ack_shot(acks, terms)
                    shot = shot or operations.advance_shot(job.message, terms)
                elif terms is not None:
                    shot = _SINGLE[job.run](operations, job.message, terms)
            if shot is None:
                return None
            shots.append(shot)
            number += shot.size
    except (PollinError, TypeError):  # an id that cannot be looked up, for one
        return None
    return shots


def pushes_from(group: Sequence[Job], first: int) -> Iterator[tuple[Any, Any]]:
    """The pushes that follow one another from there on."""
    jobs = takewhile(lambda job: job.run is Operations.push, islice(group, first, None))
    return ((job.message, job.stored) for job in jobs)


def acks_from(group: Sequence[Job], first: int, endpoint_id: str) -> Iterator[Any]:
    """The acknowledgements of that endpoint that follow one another from there on."""
    jobs = takewhile(
        lambda job: job.run is Operations.ack and job.message.endpoint_id == endpoint_id,
        islice(group, first, None),
    )
    return (job.message for job in jobs)
