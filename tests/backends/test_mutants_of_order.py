"""Backends that are wrong about turns, times and limits: the checks find every one of them."""

from __future__ import annotations

from pollin_actors.backends.conformance import capacity, consumed, ordering, schedules
from tests.backends.mutants import Mutant, changed, finds, mutants

AVAILABLE = "return self.front and not self.token and self.due <= now"
TAKEN = "taken = {row.group for row in self.rows if row.front}"
TURN = "        for row in self.rows:\n            if row.group is None or row.group not in taken:"
GROUP = "return None if key is None else (self.callback.phase, key)"
LEFT = "        self.next_fronts()\n        return row.callback"
TOKEN = "row.token, row.until, row.by = uuid4().hex, until, by"
SAME = "        if message.phase != found:\n"
FAILED = "            row.retry_at = retry_at\n"
DUE = "return max(self.retry_at, self.callback.not_before or 0)"
CLAIMED_ROWS = "claims = [queue.claim(row, now, until, by) for row in rows]"


@mutants(
    {
        "nobody waits for a turn": (AVAILABLE, "return not self.token and self.due <= now"),
        "the turn is always the oldest's": (
            TAKEN,
            "taken: set[object] = set()\n        for row in self.rows:\n"
            "            row.front = False",
        ),
        "the turn is the newest's": (TURN, TURN.replace("self.rows", "self.rows[::-1]")),
        "the turn is the earliest's": (
            TURN,
            TURN.replace("self.rows", "sorted(self.rows, key=lambda row: row.due)"),
        ),
        "the turn is of all phases": (GROUP, 'return None if key is None else ("", key)'),
        "the turn is of a phase": (
            GROUP,
            'return None if key is None else (self.callback.phase, "")',
        ),
        "keys are compared without case": (GROUP, GROUP.replace(", key)", ", key.lower())")),
        "keys are stripped": (GROUP, GROUP.replace(", key)", ", key.strip())")),
        "keys are cut": (GROUP, GROUP.replace(", key)", ", key[:255])")),
        "the turn goes along": ("        row.front = False\n", ""),
        "nobody is next": (LEFT, "        return row.callback"),
        "nobody is next in a phase": (
            "NEVER if consumed else self.expiry(now)\n        self.next_fronts()\n",
            "NEVER if consumed else self.expiry(now)\n",
        ),
        "claims pass the turn on": (
            TOKEN,
            f"{TOKEN}\n        row.front = False\n        self.next_fronts()",
        ),
        "others pass by one that is claimed": (
            TAKEN,
            "taken = {row.group for row in self.rows if row.front and not row.token}",
        ),
        "nacks pass the turn on": (
            FAILED,
            f"{FAILED}{'':12}rows = [r for r in queue.rows if r.group == row.group]\n"
            f"{'':12}if row.group and len(rows) > 1:\n"
            f"{'':16}row.front, rows[rows[0] is row].front = False, True\n",
        ),
        "updates to the same phase pass the turn on": (
            SAME,
            f"        row.front = False\n        queue.next_fronts()\n{SAME}",
        ),
        "slices take all of a key": (
            "        return [queue.leave(row, now, Kind.POPPED) for row in sliced(rows, message)]",
            "        rows = sliced(rows, message)\n        for row in rows:\n"
            "            queue.leave(row, now, Kind.POPPED)\n"
            "        more = [r for r in queue.in_phase(None) if rows and r.available(now)]\n"
            "        for row in more:\n"
            "            queue.leave(row, now, Kind.POPPED)\n"
            "        return [row.callback for row in rows + more]",
        ),
        "who waits for others is not counted": (
            "available = sum(1 for row in queue.rows if row.available(now))",
            "available = sum(1 for row in queue.rows if row.due <= now and not row.token)",
        ),
        "times are over a nanosecond late": (AVAILABLE, AVAILABLE.replace("<=", "<")),
        "times do not matter": (DUE, "return self.retry_at"),
        "retries do not matter where there is a time": (
            DUE,
            "return self.callback.not_before or self.retry_at",
        ),
        "times are over in another phase": (
            "row.callback = row.callback.with_phase(phase)",
            "row.callback = row.callback.with_phase(phase).replace(not_before=None)",
        ),
        "those who wait do not expire": (
            "if self.token else self.expires_at",
            "if self.token else max(self.expires_at, self.due)",
        ),
        "the earliest comes first": (
            CLAIMED_ROWS,
            f"rows.sort(key=lambda row: row.due)\n        {CLAIMED_ROWS}",
        ),
    }
)
def test_finds_a_wrong_order(mutant: Mutant) -> None:
    """The backend does not pass."""
    finds(lambda: changed(mutant), (*ordering.CHECKS, *schedules.CHECKS))


ENTER = "        if self.endpoint.consumes:\n            consumed ="
NEW_EXPIRY = "row.expires_at = NEVER if consumed else self.expiry(now)"
PUSHED = "        if phase not in endpoint.consumes:\n            row.expires_at"
CONSUMED = "                row.expires_at = NEVER\n"
ROWS_CONSUMED = "for row in queue.in_phase(phase):"
UPDATED = "        self._live(endpoint.id, now).endpoint = endpoint\n"


@mutants(
    {
        "the ttl begins with every push": (PUSHED, "        if True:\n            row.expires_at"),
        "the ttl of a push never begins": (
            PUSHED,
            "        if not endpoint.consumes:\n            row.expires_at",
        ),
        "the ttl never begins later": (NEW_EXPIRY, "row.expires_at = NEVER"),
        "the ttl stays as it is": (NEW_EXPIRY, "pass"),
        "the ttl begins with every phase": (NEW_EXPIRY, "row.expires_at = self.expiry(now)"),
        "the ttl never ends": (
            NEW_EXPIRY,
            "row.expires_at = row.expires_at if consumed else self.expiry(now)",
        ),
        "the ttl begins once": (
            NEW_EXPIRY,
            "row.expires_at = NEVER if consumed else min(row.expires_at, self.expiry(now))\n"
            '            vars(row).setdefault("first", row.expires_at)\n'
            '            row.expires_at = NEVER if consumed else vars(row)["first"]',
        ),
        "the ttl begins also where nothing is consumed": (
            ENTER,
            ENTER.replace("self.endpoint.consumes", "True"),
        ),
        "updates to the same phase begin the ttl": (
            SAME,
            "        if queue.endpoint.consumes:\n"
            f"            row.expires_at = queue.expiry(now)\n{SAME}",
        ),
        "consuming leaves the ttl": (CONSUMED, "                pass\n"),
        "consuming ends every ttl": (ROWS_CONSUMED, "for row in queue.rows:"),
        "consuming leaves the ttl of the claimed": (
            ROWS_CONSUMED,
            "for row in [r for r in queue.in_phase(phase) if not r.token]:",
        ),
        "consuming leaves the ttl of who waits": (
            ROWS_CONSUMED,
            "for row in [r for r in queue.in_phase(phase) if r.due <= now]:",
        ),
        "consuming again ends the ttl": (
            "if phase not in consumes:\n            queue",
            "for row in queue.in_phase(phase):\n            row.expires_at = NEVER\n"
            "        if phase not in consumes:\n            queue",
        ),
        "consuming replaces": ("consumes=(*consumes, phase))", "consumes=(phase,))"),
        "consuming brings back": (
            '        queue = self._queue(message, now)\n        phase = text(message, "phase")\n',
            "        if message.endpoint_id not in self._queues:\n"
            "            raise EndpointNotFound(message.endpoint_id)\n"
            "        queue = self._queues[message.endpoint_id]\n"
            '        phase = text(message, "phase")\n',
        ),
        "consuming takes any phase": (
            "        queue.known(phase)\n        consumes",
            "        if phase not in queue.endpoint.phases:\n            return queue.endpoint\n"
            "        consumes",
        ),
        "updates end the ttl of what is consumed": (
            UPDATED,
            f"{UPDATED}        for row in self._queues[endpoint.id].rows:\n"
            "            if row.callback.phase in endpoint.consumes:\n"
            "                row.expires_at = NEVER\n",
        ),
        "updates begin the ttl of what is not": (
            UPDATED,
            f"{UPDATED}        for row in self._queues[endpoint.id].rows:\n"
            "            if row.expires_at == NEVER:\n"
            "                row.expires_at = self._queues[endpoint.id].expiry(now)\n",
        ),
    }
)
def test_finds_a_wrong_ttl(mutant: Mutant) -> None:
    """The backend does not pass."""
    finds(lambda: changed(mutant), consumed.CHECKS)


COUNTED = (
    "counted = [r.callback for r in self.rows if not consumes or r.callback.phase in consumes]"
)
ROOM = "        self.check_room(callback)\n"
ROOT = "        callback = callback.with_phase(phase).with_root(self.root_for(callback))\n"
QUEUED = "        queued = like(callback, self.rows)\n"
REMEMBER = "        self.remembered[callback.id] = now + round(endpoint.dedup_for * 1e9)\n"
NOT_CONSUMED = "        if consumes and callback.phase not in consumes:\n            return\n"


@mutants(
    {
        "one more is taken": ("len(counted) >= limit", "len(counted) > limit"),
        "one less is taken": ("len(counted) >= limit", "len(counted) >= limit - 1"),
        "no capacity counts": ("len(counted) >= limit", "False"),
        "a capacity of nothing is none": (
            "len(counted) >= limit",
            "limit and len(counted) >= limit",
        ),
        "one byte less is taken": ("size + callback.size > limit", "size + callback.size >= limit"),
        "the size is what there was": ("size + callback.size > limit", "size >= limit"),
        "no bytes count": ("size + callback.size > limit", "False"),
        "what is held is not said": (
            '"callbacks", len(counted), limit)',
            '"callbacks", limit, limit)',
        ),
        "bytes are called callbacks": ('"bytes", size', '"callbacks", size'),
        "bytes say what would be": ('"bytes", size', '"bytes", size + callback.size'),
        "the claimed does not count": (
            COUNTED,
            COUNTED.replace("self.rows", "[r for r in self.rows if not r.token]"),
        ),
        "who waits does not count": (
            COUNTED,
            COUNTED.replace("self.rows", "[r for r in self.rows if not r.due]"),
        ),
        "what was kept counts": (COUNTED, COUNTED.replace("self.rows", "self.all()")),
        "all phases count": (COUNTED, "counted = [r.callback for r in self.rows]"),
        "pushes elsewhere are refused": (NOT_CONSUMED, ""),
        "pushes into later phases are free": (
            NOT_CONSUMED,
            "        if callback.phase != endpoint.phases[0]:\n            return\n",
        ),
        "duplicates are refused": (QUEUED, ROOM + QUEUED),
        "refused ids are remembered": (ROOM, REMEMBER + ROOM),
        "the parent is looked for later": (ROOT + ROOM, ROOM + ROOT),
        "updates are refused": (
            UPDATED,
            "        queue = self._live(endpoint.id, now)\n"
            "        if endpoint.capacity is not None and len(queue.rows) > endpoint.capacity:\n"
            '            raise InvalidValue("capacity", "more", "less")\n' + UPDATED,
        ),
        "updates remove what is too much": (
            UPDATED,
            f"{UPDATED}        queue = self._queues[endpoint.id]\n"
            "        queue.rows = queue.rows[:endpoint.capacity]\n",
        ),
    }
)
def test_finds_a_wrong_capacity(mutant: Mutant) -> None:
    """The backend does not pass."""
    finds(lambda: changed(mutant), capacity.CHECKS)
