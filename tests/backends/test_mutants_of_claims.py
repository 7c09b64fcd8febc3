"""Backends that are wrong about claims and tokens: the checks find every one of them."""

from __future__ import annotations

from pollin_actors.backends.conformance import claims, fields, ordering, schedules, tokens
from tests.backends.mutants import Mutant, changed, finds, mutants

LAPSE = "if row.token and row.until <= now:"
ENTER = '        row.token = ""\n        if phase == row.callback.phase:'
MOVE = "            queue.enter(row, now, Kind.MOVED, message.phase)\n"
SAME = "        if message.phase != found:\n"
POP = "rows = named([row for row in queue.rows if row.available(now)], message)"
POP_SLICE = (
    "rows = [row for row in queue.in_phase(message.phase) if row.available(now)]\n        return"
)
CLAIM = "if row.available(now)][:limit]"
ACK = "            queue.enter(row, now, Kind.ACKNOWLEDGED, message.then, reason)\n"
FAILED = "            row.retry_at = retry_at\n"
DEAD = "            queue.enter(row, now, Kind.DEAD, message.dead_letter, reason)\n"
THEN = (
    '        if message.then is not None:\n            queue.known(text(message, "then"))\n'
    "        row = self._claimed(queue, message)\n"
)
NEXT_AT = "return Claims(claims, queue.next_at(now))"
UNDO = "row.callback = row.callback.with_attempts(row.callback.attempts - 1)"
TOKEN = "row.token, row.until, row.by = uuid4().hex, until, by"
EXTENDED = "        row.until = until\n        return until"


@mutants(
    {
        "leases end a nanosecond late": (LAPSE, "if row.token and row.until < now:"),
        "leases end a nanosecond early": (LAPSE, "if row.token and row.until <= now + 1:"),
        "leases never end": (LAPSE, "if False:"),
        "lapses take the attempt back": (
            LAPSE,
            f"{LAPSE}\n                row.callback = row.callback.with_attempts(0)",
        ),
        "attempts are not counted": ("row.callback.attempts + 1)", "1)"),
        "attempts are taken over from the push": (
            ".with_root(self.root_for(callback))",
            ".with_root(self.root_for(callback)).with_attempts(callback.attempts)",
        ),
        "attempts go along into another phase": (
            "row.callback = row.callback.with_phase(phase)",
            "row.callback = row.callback.with_phase(phase).with_attempts(row.callback.attempts)",
        ),
        "releases count": (UNDO, "pass"),
        "releases forget all attempts": (UNDO, "row.callback = row.callback.with_attempts(0)"),
        "releases wait": (UNDO, f"{UNDO}\n        row.retry_at = now + 1"),
        "claims hold on after their end": (ENTER, ENTER.replace('row.token = ""', "pass")),
        "retries come at once": (FAILED, ""),
        "retries come late": (FAILED, FAILED.replace("= retry_at", "= retry_at + 1")),
        "nacks go to the end": (
            FAILED,
            f"{FAILED}{'':12}queue.rows.remove(row)\n{'':12}queue.rows.append(row)\n",
        ),
        "dead letters wait": (DEAD, DEAD + FAILED.replace("row.", "row.")),
        "dead letters are given back": (
            "if message.dead_letter is not None:\n            queue.enter",
            "if False:\n            queue.enter",
        ),
        "acks ignore the next phase": ("elif message.then is None:", "elif True:"),
        "acks into a phase go to the end": (
            ACK,
            f"{ACK}{'':12}queue.rows.remove(row)\n{'':12}queue.rows.append(row)\n",
        ),
        "acks into a phase keep the claim": (
            ACK,
            f"{'':12}token = row.token\n{ACK}{'':12}row.token = token\n",
        ),
        "discards go on": ("if message.discard:", "if message.discard and not message.then:"),
        "every token opens": ("row.token != token", "not row.token"),
        "no token opens what is not claimed": ("not token or row.token", "row.token"),
        "tokens are the same": (TOKEN, TOKEN.replace("uuid4().hex", '"token"')),
        "tokens are the callback's": (TOKEN, TOKEN.replace("uuid4().hex", "row.callback.id")),
        "tokens open again": (
            TOKEN,
            TOKEN.replace("uuid4().hex", "row.callback.id + str(row.callback.attempts)"),
        ),
        "tokens open until another is given": (
            TOKEN,
            f'{TOKEN}\n        vars(row)["last"] = row.token',
            "row.token != token",
            'vars(row).get("last") != token',
        ),
        "tokens are refused before phases": (
            THEN,
            "        row = self._claimed(queue, message)\n" + THEN,
        ),
        "the next phase is not checked": (THEN, "        row = self._claimed(queue, message)\n"),
        "the dead letter phase is not checked": (
            'queue.known(text(message, "dead_letter"))',
            "pass",
        ),
        "extensions count from the old end": (
            EXTENDED,
            EXTENDED.replace("until = until", "until += until - now"),
        ),
        "extensions never shorten": (
            EXTENDED,
            EXTENDED.replace("= until", "= max(row.until, until)"),
        ),
        "extensions do nothing": (EXTENDED, "        return until"),
        "extensions answer nothing": (EXTENDED, "        row.until = until\n        return 0"),
        "claims have no limit": (CLAIM, "if row.available(now)]"),
        "claims take the newest": (CLAIM, "if row.available(now)][::-1][:limit]"),
        "claims take the claimed": (CLAIM, "if row.front][:limit]"),
        "claims are of all phases": (
            f"rows = [row for row in queue.in_phase(message.phase) {CLAIM}",
            f"rows = [row for row in queue.in_phase(None) {CLAIM}",
        ),
        "claims say a wrong end": (
            "row.callback, row.token, until)",
            "row.callback, row.token, until + 1)",
        ),
        "claims show the attempts before": (
            "        row.callback = row.callback.with_attempts(row.callback.attempts + 1)\n",
            "        before = row.callback\n"
            "        row.callback = row.callback.with_attempts(row.callback.attempts + 1)\n",
            "self.endpoint.id, row.callback, row.token",
            "self.endpoint.id, before, row.token",
        ),
        "the claimed expires": (
            "return max(self.expires_at, self.until) if self.token else self.expires_at",
            "return self.expires_at",
        ),
        "claims end the ttl": (TOKEN, f"{TOKEN}\n        row.expires_at = NEVER"),
        "pops take the claimed": (POP, POP.replace("row.available(now)", "row.front")),
        "pops by key take the claimed": (
            POP,
            POP.replace("row.available(now)", "row.available(now) or message.key"),
        ),
        "slices take the claimed": (
            POP_SLICE,
            POP_SLICE.replace("row.available(now)", "row.front"),
        ),
        "counts leave out the claimed": (
            "return len(self._queue(message, now).in_phase(message.phase))",
            "rows = self._queue(message, now).in_phase(message.phase)\n"
            "        return len([row for row in rows if not row.token])",
        ),
        "dumps leave out the claimed": (
            "return page(self._queue(message, now).rows, message)",
            "rows = [r for r in self._queue(message, now).rows if not r.token]\n"
            "        return page(rows, message)",
        ),
        "fetches leave out the claimed": (
            "rows = named(self._queue(message, now).rows, message)",
            "rows = named([r for r in self._queue(message, now).rows if not r.token], message)",
        ),
        "updates leave the claim": (
            MOVE,
            f"{'':12}token = row.token\n{MOVE}{'':12}row.token = token\n",
        ),
        "updates to the same phase end the claim": (SAME, f'        row.token = ""\n{SAME}'),
        "updates to the same phase forget the attempts": (
            SAME,
            f"        row.callback = row.callback.with_attempts(0)\n{SAME}",
        ),
        "updates to the same phase forget the delay": (SAME, f"        row.retry_at = 0\n{SAME}"),
        "delays go along into another phase": (
            "        row.retry_at = 0\n        row.front",
            "        row.front",
        ),
        "next_at is never": (NEXT_AT, "return Claims(claims, None)"),
        "next_at is the latest": ("return min((int(time)", "return max((int(time)"),
        "next_at is a nanosecond late": (
            NEXT_AT,
            "at = queue.next_at(now)\n        return Claims(claims, at and at + 1)",
        ),
        "next_at is now": (NEXT_AT, "return Claims(claims, now)"),
        "next_at comes without claims only": (
            NEXT_AT,
            "return Claims(claims, None if claims else queue.next_at(now))",
        ),
        "next_at knows no leases": ("row.until if row.token else 0", "0"),
        "next_at knows no delays": ("times.update([row.due, ", "times.update([0, "),
        "next_at knows no expiry": (
            "                times.add(row.gone_at)\n",
            "                pass\n",
        ),
        "leases may be empty": (
            'now + seconds(message, "lease"), message.by',
            'now + seconds(message, "lease", zero=True), message.by',
        ),
        "extensions may be empty": (
            'until = now + seconds(message, "lease")\n',
            'until = now + seconds(message, "lease", zero=True)\n',
        ),
        "leases may be of any type": (
            'now + seconds(message, "lease"), message.by',
            "now + round(message.lease * 1e9), message.by",
        ),
        "who claims may be anything": ('        note(message, "by")\n', ""),
        "reasons may be anything": (
            'seconds(message, "retry_in", zero=True), note(message, "reason")',
            'seconds(message, "retry_in", zero=True), message.reason',
        ),
    }
)
def test_finds_a_wrong_claim(mutant: Mutant) -> None:
    """The backend does not pass."""
    first = (*claims.CHECKS, *tokens.CHECKS, *schedules.CHECKS, *fields.CHECKS, *ordering.CHECKS)
    finds(lambda: changed(mutant), first)
