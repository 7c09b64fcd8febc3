"""Backends that are wrong about what comes again, and about secrets: the checks find every one."""

from __future__ import annotations

from pollin_actors.backends.conformance import fences, repeats, rotation
from tests.backends.mutants import Mutant, changed, finds, mutants

KNOWN = "        if callback.id in self.remembered or callback.fence in self.fences:\n"
ADDED = "            self.fences[callback.fence] = self.remembered[callback.id]\n"
HAS_FENCE = "        if callback.fence is not None:\n"
PURGE = "self.fences = {fence: until for fence, until in self.fences.items() if until > now}"
LIKE = "    if not found and fence is not None:\n"
ALIKE = "found = [row for row in rows if row.callback.fence == fence]"
QUEUED = "        queued = like(callback, self.rows)\n"
ANSWER = "            return PushResult(queued.callback, Outcome.DUPLICATE)\n"
ROOM = "        self.check_room(callback)\n"
BACK = "self.rows, self.history, self.remembered, self.fences = before"
RESET = "        self.fences = {}\n        position, id"


@mutants(
    {
        "fences are nothing": (
            LIKE,
            "    if False:\n",
            KNOWN,
            KNOWN.replace(".fence in", ".id in"),
        ),
        "queued fences are nothing": (LIKE, "    if False:\n"),
        "gone fences are nothing": (KNOWN, KNOWN.replace(".fence in", ".id in")),
        "gone fences are for ever": (PURGE, "pass"),
        "fences are remembered from the last": (
            QUEUED,
            QUEUED + HAS_FENCE + "            self.fences[callback.fence] = "
            "now + round(endpoint.dedup_for * 1e9)\n",
        ),
        "fences are remembered a moment longer": (PURGE, PURGE.replace("> now", ">= now")),
        "fences are remembered a moment less": (PURGE, PURGE.replace("> now", "> now + 1")),
        "fences are forgotten with the ttl": (
            ADDED,
            "            self.fences[callback.fence] = now + endpoint.ttl * 1_000_000\n",
        ),
        "fences are ids": (
            ADDED,
            ADDED + "            self.remembered[callback.fence] = now + 1\n",
        ),
        "ids are fences": (
            HAS_FENCE + ADDED,
            "        self.fences[callback.fence or callback.id] = self.remembered[callback.id]\n",
        ),
        "none is a fence": (LIKE, "    if not found:\n"),
        "case does not count": (
            ALIKE,
            "found = [r for r in rows if (r.callback.fence or '').lower() == fence.lower()]",
        ),
        "fences come before ids": (LIKE, "    if fence in [row.callback.fence for row in rows]:\n"),
        "fences of the id count": (
            LIKE,
            "    if found and fence is not None and found[0].callback.fence != fence:\n"
            "        found = []\n" + LIKE,
        ),
        "the pushed is answered": (
            ANSWER,
            ANSWER.replace(
                "queued.callback",
                "queued.callback if queued.callback.id == callback.id else callback",
            ),
        ),
        "refused fences are remembered": (
            ROOM,
            HAS_FENCE + "            self.fences[callback.fence] = now + 10**10\n" + ROOM,
        ),
        "fences of duplicates are remembered": (
            ANSWER,
            HAS_FENCE.replace("        ", "            ", 1)
            + "                self.fences.setdefault(callback.fence, now + 10**10)\n"
            + ANSWER,
        ),
        "resets keep fences": (RESET, "        position, id"),
        "fences are dropped": (
            "with_root(self.root_for(callback))",
            "with_root(self.root_for(callback))\n"
            "        given, callback = callback, callback.replace(fence=None)",
        ),
        "moves leave fences": (BACK, BACK.replace("self.fences", "_")),
        "the full are full for duplicates": (QUEUED, ROOM + QUEUED),
    }
)
def test_finds_a_wrong_fence(mutant: Mutant) -> None:
    """The backend does not pass."""
    finds(lambda: changed(mutant), fences.CHECKS)


OF_QUEUED = "            self.repeat(queued, callback, now, queued.callback.phase)\n"
OF_KEPT = "            kept = like(callback, self.kept)\n"
KEPT = "                self.repeat(kept, callback, now, None)\n"
ENOUGH = "        if len(repeats) < MAX_REPEATS:\n"
COUNTED = "if of is row and record.kind == Kind.REPEATED]"
REASON = "            reason = repeat_reason(callback, row.callback.id)\n"
BEFORE = "        if kind == Kind.REPEATED:\n            before = phase\n"
OF_CLAIMS = "        Kind.DISCARDED,\n    }"
FOUND = "    found = [row for row in rows if row.callback.id == callback.id]\n"


@mutants(
    {
        "what is queued has no repeats": (OF_QUEUED, ""),
        "what is kept has no repeats": (KEPT, "                pass\n"),
        "repeats have no phase": (OF_QUEUED, OF_QUEUED.replace("queued.callback.phase", "None")),
        "repeats are in the phase of the push": (
            OF_QUEUED,
            OF_QUEUED.replace("queued.callback.phase", "self.endpoint.phases[0]"),
        ),
        "repeats come from nowhere": (
            BEFORE,
            "        if kind == Kind.REPEATED:\n            before = None\n",
        ),
        "what is kept stays in its phase": (BEFORE, ""),
        "what is kept comes back": (KEPT, KEPT.replace("None", "kept.callback.phase")),
        "repeats are of claims": (OF_CLAIMS, "        Kind.REPEATED,\n" + OF_CLAIMS),
        "reasons are empty": (REASON, '            reason = ""\n'),
        "reasons name the known": (
            REASON,
            REASON.replace("callback, row.callback.id", "row.callback, callback.id"),
        ),
        "reasons are always told": (REASON, REASON.replace("row.callback.id", '""')),
        "repeats end sooner": (ENOUGH, ENOUGH.replace("MAX_REPEATS", "MAX_REPEATS - 1")),
        "repeats end later": (ENOUGH, ENOUGH.replace("MAX_REPEATS", "MAX_REPEATS + 1")),
        "repeats never end": (ENOUGH, "        if True:\n"),
        "repeats of all end together": (COUNTED, "if record.kind == Kind.REPEATED]"),
        "repeats of an id end together": (
            COUNTED,
            "if record.callback_id == row.callback.id and record.kind == Kind.REPEATED]",
        ),
        "all records count": (COUNTED, "if of is row]"),
        "the first of an id is repeated": (
            "return found[-1] if found else None",
            "return found[0] if found else None",
        ),
        "the kept with the id is not looked for": (
            OF_KEPT,
            "            other = callback.replace(id=callback.fence or callback.id)\n"
            "            kept = like(other, self.kept)\n",
        ),
        "refused pushes repeat": (
            "        if callback.phase:\n            self.known(callback.phase)\n" + QUEUED,
            QUEUED + "        if queued is not None:\n            "
            "self.repeat(queued, callback, now, None)\n"
            "        if callback.phase:\n            self.known(callback.phase)\n",
        ),
        "the pushed id has the record": (
            OF_QUEUED,
            "            was = queued.callback\n"
            "            queued.callback = was.replace(id=callback.id)\n"
            + OF_QUEUED
            + "            queued.callback = was\n",
        ),
    }
)
def test_finds_wrong_repeats(mutant: Mutant) -> None:
    """The backend does not pass."""
    finds(lambda: changed(mutant), repeats.CHECKS)


ACCEPTS = "if not message.trusted and not queue.endpoint.accepts(message.secret, now):"
ROTATED = "        queue.endpoint = rotated(message, queue.endpoint, now)\n"


@mutants(
    {
        "old secrets are invalid": (
            ACCEPTS,
            ACCEPTS.replace("accepts(message.secret, now)", "secret.matches(message.secret)"),
        ),
        "old secrets are for ever": (ACCEPTS, ACCEPTS.replace(", now", ", 0")),
        "old secrets end a moment later": (ACCEPTS, ACCEPTS.replace(", now", ", now - 1")),
        "old secrets end a moment sooner": (ACCEPTS, ACCEPTS.replace(", now", ", now + 1")),
        "rotations are forgotten": (
            ROTATED,
            "        return rotated(message, queue.endpoint, now)\n",
        ),
        "rotations answer what was": (
            ROTATED,
            "        was = queue.endpoint\n" + ROTATED + "        return was\n",
        ),
        "rotations leave no overlap": (
            ROTATED,
            ROTATED + "        queue.endpoint = queue.endpoint.replace(old_secrets=())\n",
        ),
        "rotations keep one old secret": (
            ROTATED,
            ROTATED + "        old = queue.endpoint.old_secrets[:1]\n"
            "        queue.endpoint = queue.endpoint.replace(old_secrets=old)\n",
        ),
        "rotations know no time": (ROTATED, ROTATED.replace("now)", "0)")),
        "rotations are not checked": (
            ROTATED,
            "        try:\n    " + ROTATED + "        except InvalidValue:\n            pass\n",
        ),
        "rotations empty the queue": (ROTATED, ROTATED + "        queue.reset(now)\n"),
        "rotations end claims": (
            ROTATED,
            ROTATED + "        for row in queue.rows:\n            row.token = ''\n",
        ),
        "unknown endpoints are no error": (
            "        queue = self._queue(message, now)\n" + ROTATED,
            "        first = next(iter(self._queues.values()))\n"
            "        queue = self._queues.get(message.endpoint_id, first)\n" + ROTATED,
        ),
        "updates keep old secrets": (
            "        queue.endpoint = endpoint\n",
            "        old = (*endpoint.old_secrets, *queue.endpoint.old_secrets)\n"
            "        queue.endpoint = endpoint.replace(old_secrets=old)\n",
        ),
    }
)
def test_finds_a_wrong_rotation(mutant: Mutant) -> None:
    """The backend does not pass."""
    finds(lambda: changed(mutant), rotation.CHECKS)
