"""Instruments that write down what they are told."""

from __future__ import annotations

from typing import Any

from pollin_actors.instruments import Call, Instruments
from pollin_actors.otp import Event
from pollin_actors.records import Claim
from pollin_actors.resources import Callback

__all__ = ["Recording", "brief"]


class Recording(Instruments):
    """Wants to know everything."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def of(self, *names: str) -> list[tuple[Any, ...]]:
        """What it was told by these methods, in order."""
        return [each for each in self.told if each[0] in names]

    def operated(
        self, message: Any, seconds: float, reply: Any, error: BaseException | None
    ) -> None:
        assert seconds >= 0
        self.told.append(("operated", type(message).__name__, brief(reply), brief(error)))

    def sending(self, endpoint_id: str, callback: Callback) -> Any:
        self.told.append(("sending", endpoint_id, callback.id))
        return callback.id

    def sent(self, token: Any, result: Any, error: BaseException | None) -> None:
        self.told.append(("sent", token, brief(result), brief(error)))

    def receiving(self, headers: Any) -> Any:
        self.told.append(("receiving", len(headers)))
        return len(self.told)

    def received(
        self, token: Any, endpoint_id: str | None, status: int, outcome: str, seconds: float
    ) -> None:
        assert self.told[token - 1][0] == "receiving"
        assert seconds >= 0
        self.told.append(("received", endpoint_id, status, outcome))

    def calling(self, call: Call) -> Any:
        self.told.append(("calling", call.handler, [claim.key for claim in call.claims]))
        return call

    def called(self, token: Any, call: Call, result: Any, error: BaseException | None) -> None:
        assert token is call
        self.told.append(("called", call.handler, brief(result), brief(error)))

    def handled(self, call: Call, seconds: float, outcome: str) -> None:
        self.told.append(("handled", call.handler, len(call.claims), seconds, outcome))

    def settled(self, handler: str, claim: Claim, outcome: str) -> None:
        self.told.append(("settled", handler, claim.key, claim.attempt, outcome))

    def supervised(self, event: Event) -> None:
        self.told.append(("supervised", event.event, event.child))


def brief(value: Any) -> Any:
    """A value, or the name of its type if it has no short form."""
    if value is None or isinstance(value, bool | int):
        return value
    if hasattr(value, "outcome"):
        return value.outcome.value
    return type(value).__name__
