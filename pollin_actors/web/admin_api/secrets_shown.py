"""Which secrets are looked for in headers before these are shown."""

from __future__ import annotations

from pollin_actors.application import Application
from pollin_actors.masking import Secrets
from pollin_actors.web.admin_api.table import Call
from pollin_actors.web.quarantine import quarantine_of

__all__ = ["secrets_at", "secrets_of"]

_PLACE = quarantine_of("")


async def secrets_of(call: Call) -> Secrets:
    """Those of the endpoint that a request is about. Asked for before the callbacks: what is popped
    must be answered."""
    return await secrets_at(call.app, call.endpoint_id, call.timeout)


async def secrets_at(app: Application, endpoint_id: str, timeout: float) -> Secrets:
    """Those of an endpoint; where that is the quarantine of another, those of the other too.

    Arguments:
        app: the application.
        endpoint_id: whose.
        timeout: seconds for each look.
    """
    ids = dict.fromkeys((endpoint_id, endpoint_id.removesuffix(_PLACE)))
    found = [await app.endpoints.find(id, timeout=timeout) for id in ids if id]
    return Secrets(
        secret
        for endpoint in found
        if endpoint is not None
        for secret in (endpoint.secret, *[old.secret for old in endpoint.old_secrets])
    )
