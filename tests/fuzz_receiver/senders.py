"""Who sends: one for each signature scheme that there is."""

from __future__ import annotations

import hashlib
import time
from dataclasses import MISSING, fields
from random import Random

from pollin_actors import Endpoint, InvalidValue, Secret, signatures
from pollin_actors.intake import Intake, Verify
from pollin_actors.signatures import Delivery, Scheme, Verified, parse_scheme
from pollin_actors.unverified import new_place

__all__ = ["LATER", "Sender", "senders", "special_endpoints"]

LATER = "-later"
"""Ends the ids of the endpoints that verify later."""

# Those that have options without which they are nothing, or which are other ways to sign.
OPTIONS = {
    "twilio": ["twilio?url=https%3A%2F%2Fhooks.example.org%2Ftwilio"],
    "hmac": [
        "hmac",
        "hmac?header=X-Acme&encoding=base64&signed=%7Btimestamp%7D.%7Bbody%7D"
        "&timestamp_header=X-Acme-Time",
        "hmac?header=X-Acme&algorithm=sha512&prefix=v1%3D&signed=%7Bid%7D.%7Bbody%7D"
        "&id_header=X-Acme-Id",
    ],
}

Signed = tuple[list[tuple[bytes, bytes]], bytes]


class Sender:
    """A scheme, a secret, and how requests are signed with it.

    Arguments:
        name: the id of its endpoint.
        scheme: how it signs.
        secret: with what.
    """

    def __init__(self, name: str, scheme: Scheme, secret: Secret) -> None:
        self.name = name
        self.scheme = scheme
        self.secret = secret
        now = time.time()
        one, _ = self.sign(b"a=1", "evt1", now)
        outcome = scheme.verify(Delivery(one, b"a=1"), [secret], now)
        assert isinstance(outcome, Verified), f"{name}: {outcome}"
        self.signs = bool(one)
        """Whether it signs at all."""
        self.covers_body = one != self.sign(b"a=2", "evt1", now)[0]
        self.covers_time = one != self.sign(b"a=1", "evt1", now - 90_000)[0]
        self.keyed = outcome.key is not None
        """Whether the same request a second time is known to be the same."""

    def sign(
        self, body: bytes, event_id: str, now: float | None = None, secret: Secret | None = None
    ) -> Signed:
        """The headers and the query with which it would send a body."""
        now = time.time() if now is None else now
        secret = self.secret if secret is None else secret
        query = b""
        try:
            pairs = self.scheme.sign(body, secret, now, id=event_id)
        except InvalidValue:
            # Some sign only forms, and other bodies by a digest in the query.
            query = b"bodySHA256=" + hashlib.sha256(body).hexdigest().encode()
            pairs = self.scheme.sign(body, secret, now, id=event_id, query=query)
        return [(name.encode(), value.encode()) for name, value in pairs], query

    def forged(self, body: bytes, event_id: str, chance: Random) -> tuple[Signed, bytes]:
        """Headers, query and a body that are not genuine."""
        ways = ["secret", "dropped", "emptied", "cut", "changed"]
        ways += ["body"] * self.covers_body + ["time"] * self.covers_time
        way = chance.choice(ways)
        if way == "secret":
            return self.sign(body, event_id, secret=self.scheme.generate_secret()), body
        if way == "time":
            away = chance.choice([-90_000, 90_000])
            return self.sign(body, event_id, time.time() + away), body
        pairs, query = self.sign(body, event_id)
        if way == "body":
            return (pairs, query), body + b"x"
        return (self._spoilt(pairs, body, event_id, way, chance), query), body

    def _spoilt(
        self, pairs: list[tuple[bytes, bytes]], body: bytes, event_id: str, way: str, chance: Random
    ) -> list[tuple[bytes, bytes]]:
        """The headers, with the one that holds the proof spoilt."""
        other, _ = self.sign(body, event_id, secret=self.scheme.generate_secret())
        spoilt = []
        for (name, value), (_, wrong) in zip(pairs, other, strict=True):
            if value == wrong:
                spoilt.append((name, value))
            elif way == "emptied":
                spoilt.append((name, b""))
            elif way == "cut":
                spoilt.append((name, value[: chance.randrange(len(value) - 4)]))
            elif way == "changed":
                # Not at the end, where base64 has bits that say nothing.
                at = len(value) - 8
                spoilt.append((name, value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]))
        return spoilt

    def endpoints(self) -> list[Endpoint]:
        """The endpoint that it sends to, and one that verifies later."""
        later = Intake(self.scheme, verify=Verify.LATER)
        # As the receiver would make it.
        place = new_place(self.name + LATER)
        return [
            _endpoint(self.name, self.secret, Intake(self.scheme)),
            _endpoint(self.name + LATER, self.secret, later),
            place,
        ]


def senders(secrets: dict[str, str]) -> list[Sender]:
    """One for each scheme, and each way to use it.

    Arguments:
        secrets: by name; those that are missing are made, and put there.
    """
    found = []
    for kind in vars(signatures).values():
        if not (isinstance(kind, type) and issubclass(kind, Scheme)) or kind is Scheme:
            continue
        needed = [field.name for field in fields(kind) if field.default is MISSING]
        texts = OPTIONS.get(kind.name, [kind.name])
        assert not needed or kind.name in OPTIONS, f"say how to make {kind.name}: {needed}"
        for number, text in enumerate(texts, 1):
            name = kind.name if number == 1 else f"{kind.name}-{number}"
            scheme = parse_scheme(text)
            if name not in secrets:
                secrets[name] = scheme.generate_secret().reveal()
            found.append(Sender(name, scheme, Secret(secrets[name])))
    return sorted(found, key=lambda it: it.name)


def special_endpoints(sender: Sender) -> list[Endpoint]:
    """Endpoints of one sender that do not take everything."""
    scheme = sender.scheme
    intakes = {
        "off": Intake(scheme, enabled=False),
        "rated": Intake(scheme, rate=20.0, burst=10),
        "typed": Intake(scheme, content_types=("application/json",)),
    }
    made = [_endpoint(name, sender.secret, intake) for name, intake in intakes.items()]
    return [*made, _endpoint("narrow", sender.secret, Intake(scheme)).replace(capacity=5)]


def _endpoint(name: str, secret: Secret, intake: Intake) -> Endpoint:
    # Nothing is remembered of what was taken out: memory has to stay as it is.
    return Endpoint.new(
        ["received"], 0, id=name, secret=secret, dedup_for=0, keep_for=0, intake=intake
    )
