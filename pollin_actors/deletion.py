"""Deleting an endpoint, and with it the place where requests for it wait to be verified."""

from __future__ import annotations

from pollin_actors.calls import Steps, run_steps
from pollin_actors.endpoint import MAX_ENDPOINT_ID
from pollin_actors.messages import DeleteEndpoint, FindEndpoint
from pollin_actors.otp import ReplyFuture
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.resources import Endpoint
from pollin_actors.unverified import parent_of, place_of

__all__ = ["delete"]


def delete(mailbox: Mailbox, endpoint_id: str, timeout: float | None) -> ReplyFuture[bool]:
    """As ``app.endpoints.delete``, by way of the mailbox of the endpoints."""
    if not isinstance(endpoint_id, str) or len(place_of(endpoint_id)) > MAX_ENDPOINT_ID:
        return mailbox.ask(DeleteEndpoint(endpoint_id), timeout)
    return run_steps(_deleting(mailbox, endpoint_id, timeout), mailbox, "delete", timeout)


def _deleting(mailbox: Mailbox, endpoint_id: str, timeout: float | None) -> Steps[bool]:
    # First the endpoint: what it was answered must not be lost while it is there. Who makes the
    # place looks afterwards whether it still is, so that one of the two takes the place away.
    existed: bool = yield mailbox.ask(DeleteEndpoint(endpoint_id), timeout)
    place_id = place_of(endpoint_id)
    place: Endpoint | None = yield mailbox.ask(FindEndpoint(place_id), timeout)
    if place is None or parent_of(place) != endpoint_id:
        return existed
    # The next endpoint of this id may be there already.
    if (yield mailbox.ask(FindEndpoint(endpoint_id), timeout)) is None:
        yield mailbox.ask(DeleteEndpoint(place_id), timeout)
    return existed
