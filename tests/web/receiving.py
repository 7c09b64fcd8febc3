"""A receiver in virtual time, and a scheme that does as it is told."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from pollin_actors import Endpoint, Intake, Secret
from pollin_actors.signatures import Delivery, Refused, Scheme, Verified
from pollin_actors.signatures.interface import headers_of

__all__ = ["Answered", "Told", "orders", "send"]


@dataclass(frozen=True, slots=True)
class Told(Scheme):
    """What shows a secret as X-Sign is genuine; its other headers say what comes of it."""

    name: ClassVar[str] = "told"

    def verify(
        self, delivery: Delivery, secrets: Sequence[Secret], now: float
    ) -> Verified | Refused:
        found = headers_of(delivery.headers, b"x-sign", b"x-id", b"x-fence", b"x-at", b"x-hello")
        if found is None:
            return Refused("a header is repeated")
        if b"x-at" in found and abs(float(found[b"x-at"]) - now) > 300:
            return Refused("too old")
        if b"x-hello" in found:
            return Verified(reply=b'{"hello": ' + found[b"x-hello"] + b"}")
        if delivery.query and delivery.query != b"a=%20b":
            return Refused("another query")
        for secret in secrets:
            if secret.matches(found.get(b"x-sign", b"")):
                key, fence = found.get(b"x-id"), found.get(b"x-fence")
                return Verified(
                    key.decode() if key else None,
                    fence.decode() if fence else None,
                    secret,
                    (b"x-sign",),
                )
        return Refused("not signed with any secret")


def orders(secret: str = "old", **intake: Any) -> Endpoint:
    """The endpoint orders, of that scheme unless another is given."""
    intake = {"scheme": Told(), **intake}
    return Endpoint.new(["received"], 0, id="orders", secret=secret, intake=Intake(**intake))


class Answered(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    json: Any


def send(
    receiver: Any,
    headers: dict[str, str] | None = None,
    body: bytes = b"{}",
    *,
    path: str = "/orders",
    method: str = "POST",
    query: str = "",
    more: dict[str, Any] | None = None,
) -> Answered:
    """One request to a WSGI callable; signed with the secret "old" unless headers are given."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **{
            "HTTP_" + name.upper().replace("-", "_"): value
            for name, value in ({"X-Sign": "old"} if headers is None else headers).items()
        },
        **(more or {}),
    }
    started: list[Any] = []
    [answer] = receiver(environ, lambda status, pairs: started.extend([status, pairs]))
    status, pairs = started
    assert len(dict(pairs)) == len(pairs)
    return Answered(int(status.partition(" ")[0]), dict(pairs), json.loads(answer or b"null"))
