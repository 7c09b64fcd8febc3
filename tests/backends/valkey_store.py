"""What has to hold in a store on Valkey, whatever happened before."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from pollin_actors.backends.valkey.address import parse

__all__ = ["Contents", "Row", "check_contents", "client_of", "read_contents"]

_QUEUED = "awdc"
_DECODE = """
local found = redis.call('HGETALL', KEYS[1])
for at = 2, #found, 2 do
  local kind = string.sub(found[at - 1], 1, 1)
  if kind == 'r' then found[at] = cjson.encode(cmsgpack.unpack(found[at])) end
  if kind == 'b' then found[at] = '' end
end
return found
"""
_TERMS = "return cjson.encode(cmsgpack.unpack(redis.call('HGET', KEYS[1], 't')))"
_RANGED = "qxldejwkzmo"
_HASHES = "gcy"


class Row(NamedTuple):
    """A row as the functions keep it."""

    id: str
    phase: str
    place: str
    expires: str
    remembered: str
    keep: str
    pushed_at: str
    pushed_in: str
    attempts: int
    due: str
    token: str
    by: str
    retry_at: str
    repeats: int
    last: str
    size: int
    order: str
    not_before: str
    fence: str
    parent: str
    root: str
    origin: str
    entered: int


class Contents(NamedTuple):
    """All that is stored of one endpoint."""

    record: dict[str, str]
    terms: dict[str, Any]
    rows: dict[str, Row]
    sets: dict[str, dict[str, float]]
    hashes: dict[str, dict[str, str]]
    log: dict[str, str]
    keys: set[str]


def client_of(url: str) -> Any:
    """The client, on the server of a backend's URL."""
    import valkey

    address = parse(url)
    options = dict(address.connection)
    path = options.pop("path", None)
    return valkey.Valkey(unix_socket_path=path, ssl=address.kind == "tls", **options)


def read_contents(client: Any, prefix: str, endpoint_id: str) -> Contents:
    """Read everything of an endpoint."""
    key = f"{prefix}:{{{endpoint_id}}}"
    record = _texts(client.hgetall(key), raw=("t",))
    at = f"{key}:{record['g']}:"
    pipeline = client.pipeline(transaction=False)
    for name in _RANGED:
        pipeline.zrange(at + name, 0, -1, withscores=True)
    for name in _HASHES:
        pipeline.hgetall(at + name)
    pipeline.xrange(at + "h")
    pipeline.eval(_DECODE, 1, at + "r")
    pipeline.eval(_TERMS, 1, key)
    pipeline.keys(f"{prefix}:*")
    replies = pipeline.execute()
    sets = {
        name: {member.decode(): score for member, score in found}
        for name, found in zip(_RANGED, replies, strict=False)
    }
    found = replies[len(_RANGED) :]
    hashes = {name: _texts(one) for name, one in zip(_HASHES, found, strict=False)}
    log, flat, terms, keys = found[len(_HASHES) :]
    texts = {k.decode().removesuffix("-0"): v.get(b"r", b"").decode() for k, v in log}
    fields = {k.decode(): v.decode() for k, v in zip(flat[::2], flat[1::2], strict=True)}
    rows = {name[1:]: Row(*json.loads(row)) for name, row in fields.items() if name[0] == "r"}
    hashes["b"] = {name[1:]: "" for name in fields if name[0] == "b"}
    hashes["i"] = {name: number for name, number in fields.items() if name[0] in "if"}
    names = {name.decode() for name in keys}
    return Contents(record, json.loads(terms), rows, sets, hashes, texts, names)


def _texts(found: Mapping[bytes, bytes], raw: Any = ()) -> dict[str, str]:
    """As texts; of what is not one only that it is there."""
    names = {name if isinstance(name, bytes) else name.encode() for name in raw}
    return {k.decode(): "" if k in names else v.decode() for k, v in found.items()}


def check_contents(stored: Contents, prefix: str, endpoint_id: str) -> None:
    """Assert that everything that can be derived agrees with the rows, and that no key is left."""
    rows, sets, hashes = stored.rows, stored.sets, stored.hashes
    queued = {number: row for number, row in rows.items() if row.place in _QUEUED}
    kept = {number: row for number, row in rows.items() if row.place == "k"}
    gone = {number: row for number, row in rows.items() if row.place in "km"}
    assert len(queued) + len(gone) == len(rows)
    for name, numbers in (("q", queued), ("z", kept)):
        assert sets[name] == {number: float(number) for number in numbers}
    assert set(hashes["b"]) == {*queued, *kept}
    _check_places(stored, queued)
    _check_names(stored, {**queued, **kept}, kept)
    assert set(sets["o"]) == {row.due + _padded(number) for number, row in gone.items()}
    counts: Counter[str] = Counter()
    for row in queued.values():
        counts[f"s{row.phase}"] += row.size
    expected = {name: str(number) for name, number in counts.items()}
    found = dict(hashes["c"])
    found.pop("expired", None)
    assert found == expected
    _check_log(stored, {**queued, **kept})
    key = f"{prefix}:{{{endpoint_id}}}"
    at = f"{key}:{stored.record['g']}:"
    own = {name for name in stored.keys if name.startswith(key)}
    assert own <= {key, *(at + name for name in (*_RANGED, *_HASHES, "r", "h"))}


def _padded(number: str) -> str:
    return number.rjust(16, "0")


def _check_places(stored: Contents, queued: dict[str, Row]) -> None:
    sets, hashes = stored.sets, stored.hashes
    shelves: set[str] = set()
    groups: dict[str, dict[str, Row]] = {}
    for number, row in queued.items():
        held = "0" if row.place == "a" else "1"
        shelves.add(f"{row.phase}\0{held}{_padded(number)}")
        assert bool(row.token) == (row.place == "c")
        if row.order:
            groups.setdefault(f"{row.phase}\0{row.order}", {})[number] = row
        else:
            assert row.place != "w"
    assert set(sets["x"]) == shelves
    for name, place in (("l", "c"), ("d", "d")):
        there = {row.due + _padded(n) for n, row in queued.items() if row.place == place}
        assert set(sets[name]) == there
    fronts = {}
    behind = set()
    for group, members in groups.items():
        (fronts[group],) = [number for number, row in members.items() if row.place != "w"]
        behind |= {f"{group}\0{_padded(n)}" for n, row in members.items() if row.place == "w"}
    assert hashes["g"] == fronts
    assert set(sets["w"]) == behind
    # What was in a phase when that began to be consumed takes itself out when it is next looked at.
    marks = stored.terms["marks"] or {}
    ends, void, ordered = set(), set(), set()
    for number, row in queued.items():
        if row.expires and row.place != "c":
            end = row.expires + _padded(number)
            ends.add(end)
            if row.entered < marks.get(row.phase, 0):
                void.add(end)
            if row.order:
                ordered.add(end)
    assert ends - void <= set(sets["e"]) <= ends
    assert ordered - void <= set(sets["j"]) <= ordered
    first = min((member[:19] for name in "lde" for member in sets[name]), default=None)
    soonest = stored.record["n"]
    assert first is None or (soonest and soonest <= first)


def _check_names(stored: Contents, held: dict[str, Row], kept: dict[str, Row]) -> None:
    sets, hashes = stored.sets, stored.hashes
    names: dict[str, int] = {}
    for number, row in stored.rows.items():
        for name in [f"i{row.id}", *([f"f{row.fence}"] if row.fence else [])]:
            names[name] = max(names.get(name, 0), int(number))
    assert hashes["i"] == {name: str(number) for name, number in names.items()}
    past = {f"i{row.id}\0{_padded(number)}" for number, row in kept.items()}
    past |= {f"f{row.fence}\0{_padded(number)}" for number, row in kept.items() if row.fence}
    assert set(sets["m"]) == past
    children = {f"{row.parent}\0{_padded(n)}" for n, row in held.items() if row.parent}
    assert set(sets["k"]) == children


def _check_log(stored: Contents, held: dict[str, Row]) -> None:
    expected = {at for at, text in stored.log.items() if text.startswith("0\0")}
    for number, row in held.items():
        if not row.keep:
            assert row.last == ""
            continue
        expected.add(number)
        at = row.last
        while at:
            expected.add(at)
            owner, at = stored.log[at].split("\0")[:2]
            assert owner == number
    assert set(stored.log) == expected
