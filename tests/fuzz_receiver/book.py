"""What was sent, what was answered, what is stored: and whether these agree."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.fuzz_receiver.cases import Case, Claim

__all__ = ["Book"]

SHOWN = 20


class Entry:
    """All that is known of one marker."""

    __slots__ = ("case", "refused", "stored", "taken")

    def __init__(self, case: Case) -> None:
        self.case = case
        self.taken = False
        """Answered 200."""
        self.refused = True
        """Each time it was sent the answer said that it is not taken."""
        self.stored = 0


class Book:
    """Keeps what was sent and answered, and compares it with what the server holds."""

    def __init__(self) -> None:
        self.answers: dict[str, Counter[int | None]] = {}
        """By kind, how often each status was answered; None: nothing was."""
        self.stored = 0
        self.quarantined = 0
        self.failures: list[str] = []
        self._entries: dict[str, Entry] = {}

    @property
    def requests(self) -> int:
        return sum(counter.total() for counter in self.answers.values())

    def sent(self, case: Case) -> None:
        """It is being sent."""
        if case.marker not in self._entries:
            self._entries[case.marker] = Entry(case)

    def answered(self, case: Case, status: int | None) -> None:
        """What was answered to it, if anything."""
        self.answers.setdefault(case.kind, Counter())[status] += 1
        entry = self._entries[case.marker]
        entry.taken |= status == 200
        entry.refused &= status not in (None, 200, 503)
        if status is not None and status not in case.answers and status != 503:
            wanted = sorted(case.answers)[:5]
            self.failed([case], f"{case.kind} to {case.endpoint!r}: {status}, not {wanted}")

    def also(self, case: Case, status: int | None) -> None:
        """What was answered to what a server took for one more request."""
        if status is not None and status >= 500 and status != 503:
            self.failed([case], f"{case.kind}: {status}")

    def failed(self, cases: list[Case], why: str) -> None:
        """Something is not as it should be."""
        sent = [b"".join(case.pieces)[:300] for case in cases]
        self._note(f"{why}; sent: {sent}")
        for case in cases:
            self._entries[case.marker].refused = False

    def _note(self, failure: str) -> None:
        if len(self.failures) < SHOWN:
            self.failures.append(failure)

    def compare(self, found: dict[str, Any]) -> None:
        """See whether the server holds what it should; then begin anew.

        Arguments:
            found: what ``look`` has told.
        """
        for line in found["trouble"]:
            self._note(f"its log: {line}")
        for endpoint, marker, inside, checksum in found["stored"]:
            self._see_stored(endpoint, marker, inside, checksum)
        for endpoint, marker, _, _ in found["quarantined"]:
            entry = self._entries.get(marker)
            if entry is None or entry.case.claim is Claim.GENUINE:
                self._note(f"{marker!r} is in quarantine at {endpoint}")
        for entry in self._entries.values():
            self._see_number(entry)
        self.stored += len(found["stored"])
        self.quarantined += len(found["quarantined"])
        self._entries.clear()

    def _see_stored(self, endpoint: str, marker: str, inside: str, checksum: int) -> None:
        entry = self._entries.get(marker)
        if entry is None or (inside and inside != marker):
            self._note(f"{endpoint} holds {marker!r} with {inside!r}, never sent so")
            return
        entry.stored += 1
        case = entry.case
        if case.claim is Claim.FORGED:
            self.failed([case], f"{endpoint} holds {case.kind}")
        elif case.claim is Claim.GENUINE and (endpoint, checksum) != (case.endpoint, case.checksum):
            self.failed([case], f"{endpoint} holds another body than was sent to {case.endpoint}")

    def _see_number(self, entry: Entry) -> None:
        case = entry.case
        if entry.stored > 1:
            self.failed([case], f"{case.kind} to {case.endpoint}: stored {entry.stored} times")
        if case.claim is Claim.GENUINE and entry.taken and not entry.stored:
            self.failed([case], f"{case.kind} to {case.endpoint}: answered 200, and is not there")
        # One that is odd may have been taken for several, and the answers come in any order.
        if case.claim is Claim.GENUINE and entry.refused and entry.stored:
            self.failed([case], f"{case.kind} to {case.endpoint}: refused, and is there")
