"""What is sent: single requests, each of some kind, and what may be answered to it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from enum import Enum
from random import Random

from tests.fuzz_receiver.senders import Sender

__all__ = ["Case", "Claim", "Desk", "Pairs", "Then", "checksum_of", "path_to", "written"]

Pairs = list[tuple[bytes, bytes]]


class Claim(Enum):
    """What a request says of itself, and what may become of it."""

    GENUINE = "genuine"
    """It is what its sender has signed: answered 200, it is stored, as it was sent."""
    PERHAPS = "perhaps"
    """It is signed, but so sent that it may be refused, or understood in another way."""
    FORGED = "forged"
    """It must never be stored."""


class Then(Enum):
    """What happens after it was sent."""

    GO_ON = "go on"
    """An answer has to come, and the connection is used further."""
    LAST = "last"
    """An answer has to come. What then becomes of the connection is the server's business."""
    END = "end"
    """We say that nothing more comes; the server has to close, with an answer or without."""
    LEAVE = "leave"
    """We close, at once."""
    RESET = "reset"
    """We are gone, without a word."""


@dataclass(slots=True)
class Case:
    """One request.

    Arguments:
        kind: what is odd about it.
        endpoint: the id of the endpoint that it is for.
        marker: in its header, and in its body if that has one.
        claim: what may become of it.
        pieces: its bytes, in the pieces in which they are sent.
        answers: the statuses that may be answered, besides 503.
        then: what happens afterwards.
        checksum: of its body.
        is_head: whether its answer has no body.
    """

    kind: str
    endpoint: str
    marker: str
    claim: Claim
    pieces: list[bytes]
    answers: frozenset[int]
    then: Then = Then.GO_ON
    checksum: int = 0
    is_head: bool = False


@dataclass
class Desk:
    """Where requests are made: senders, and a number for each.

    Arguments:
        senders: all that there are.
        chance: what is random.
    """

    senders: list[Sender]
    chance: Random
    taken: list[Case] = field(default_factory=list)
    """Of this round, that may be sent again."""
    number: int = 0

    def marker(self) -> str:
        """One that nothing else has."""
        self.number += 1
        return f"marker-{self.number}-"

    def body(self, marker: str, size: int | None = None) -> bytes:
        """A body with a marker at its beginning, which mostly is a form."""
        chance = self.chance
        size = chance.choice([0, 10, 200, 3_000]) if size is None else size - len(marker) - 2
        if chance.random() < 0.3:
            rest = chance.randbytes(size)
        else:
            rest = bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=size))
        return b"m=" + marker.encode() + rest

    def headers(self, marker: str, *pairs: tuple[bytes, bytes]) -> Pairs:
        """What every request has, and some."""
        return [(b"X-Marker", marker.encode()), (b"Host", b"hooks.example.org"), *pairs]

    def signed(self, sender: Sender, marker: str, body: bytes) -> tuple[Pairs, bytes]:
        """Headers with a signature, and the target with its query."""
        pairs, query = sender.sign(body, "evt" + marker.replace("-", "x"))
        return self.headers(marker, *pairs), query

    def any_sender(self, signs: bool = True) -> Sender:
        return self.chance.choice([it for it in self.senders if it.signs or not signs])


def written(
    target: bytes,
    headers: Pairs,
    body: bytes = b"",
    *,
    method: bytes = b"POST",
    version: bytes = b"HTTP/1.1",
    length: bool = True,
) -> bytes:
    """A request as it goes over the wire."""
    lines = [method + b" " + target + b" " + version]
    lines += [name + b": " + value for name, value in headers]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + body


def path_to(endpoint: str, query: bytes = b"") -> bytes:
    """The target of requests for an endpoint."""
    return b"/" + endpoint.encode() + (b"?" + query if query else b"")


def checksum_of(body: bytes) -> int:
    """As the server tells it."""
    return zlib.crc32(body)
