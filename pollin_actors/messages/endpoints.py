"""The operations on endpoints themselves, and on the whole."""

from __future__ import annotations

from typing import NamedTuple

from pollin_actors.resources import Endpoint, Secret

__all__ = [
    "CheckReady",
    "Consume",
    "CreateEndpoint",
    "DeleteEndpoint",
    "FindEndpoint",
    "IndexEndpoints",
    "RotateSecret",
    "Sweep",
    "UpdateEndpoint",
]


class IndexEndpoints(NamedTuple):
    """List the endpoints. Reply: a list of ``Endpoint`` in creation order."""


class FindEndpoint(NamedTuple):
    """Look an endpoint up. Reply: the ``Endpoint`` or None."""

    endpoint_id: str


class CreateEndpoint(NamedTuple):
    """Store a new endpoint. Reply: the ``Endpoint``.

    Errors: ``EndpointExists``, and nothing is changed.
    """

    endpoint: Endpoint


class UpdateEndpoint(NamedTuple):
    """Replace the endpoint that has the same id. Reply: the ``Endpoint``.

    Queued callbacks stay, with the phase and the expiry they have; the endpoint keeps its place
    in the creation order. A changed ttl, dedup_for or keep_for counts for later pushes; the ttl
    and the phases that are consumed also for whatever enters a phase later.

    With ``expect`` it is replaced only if what is stored equals that, its secrets included: so
    nobody writes back what another has changed meanwhile.

    Errors, nothing changed: ``EndpointNotFound``, ``EndpointConflict``.
    """

    endpoint: Endpoint
    expect: Endpoint | None = None


class DeleteEndpoint(NamedTuple):
    """Remove an endpoint, its callbacks and its memory of ids. Reply: whether it existed."""

    endpoint_id: str


class Consume(NamedTuple):
    """Add a phase to those that the endpoint says are consumed. Reply: the ``Endpoint``.

    What is in that phase does not expire any more. Nothing is changed if it is consumed already.

    Errors: ``EndpointNotFound``, ``UnknownPhase``.
    """

    endpoint_id: str
    phase: str


class RotateSecret(NamedTuple):
    """Give an endpoint another secret; the present one stays valid until then. Reply: the changed
    ``Endpoint``, which is as ``Endpoint.rotated`` says.

    ``until`` is nanoseconds since the epoch; a time that has come leaves no overlap, and ends that
    of older ones. Otherwise old secrets stay valid for as long as they would have. The present
    secret again is no old one, and changes nothing else.

    Errors, nothing changed: ``EndpointNotFound``; ``InvalidValue`` for a secret that the
    endpoint's scheme cannot have.
    """

    endpoint_id: str
    secret: Secret
    until: int

    def __repr__(self) -> str:
        # Whatever was given in its place may be one.
        return (
            f"RotateSecret(endpoint_id={self.endpoint_id!r}, secret='**********', "
            f"until={self.until!r})"
        )


class CheckReady(NamedTuple):
    """Find out whether a change could be stored now; nothing is changed. Reply: None.

    Errors: ``BackendUnavailable``.
    """


class Sweep(NamedTuple):
    """Remove expired callbacks of all endpoints, at most ``limit``. Reply: how many expired.

    What has been kept for long enough is forgotten too, about as many.
    """

    limit: int = 1000
