"""The kinds of requests: each function makes one."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz_receiver import rubbish
from tests.fuzz_receiver.cases import Case, Claim, Desk, Pairs, Then, checksum_of, path_to, written
from tests.fuzz_receiver.senders import LATER, Sender
from tests.fuzz_receiver.server import LIMIT

__all__ = ["KINDS", "next_case"]

TAKEN = frozenset({200})
REFUSED = frozenset({401})
NONE: Pairs = []
Kind = Callable[[Desk], Case]


def next_case(desk: Desk) -> Case:
    """The next request, of a random kind."""
    [kind] = desk.chance.choices(list(KINDS), weights=list(KINDS.values()))
    return kind(desk)


def _place(desk: Desk, sender: Sender) -> str:
    return sender.name + (LATER if desk.chance.random() < 0.2 else "")


def _genuine(
    desk: Desk, kind: str, sender: Sender, place: str, size: int | None = None, extra: Pairs = NONE
) -> Case:
    marker = desk.marker()
    body = desk.body(marker, size)
    headers, query = desk.signed(sender, marker, body)
    sent = [written(path_to(place, query), [*headers, *extra], body)]
    # Where nothing is signed, anything may be stored.
    claim = Claim.GENUINE if sender.signs else Claim.PERHAPS
    return Case(kind, place, marker, claim, sent, TAKEN, checksum=checksum_of(body))


def genuine(desk: Desk) -> Case:
    """As a sender sends it, with headers that anybody may add."""
    sender = desk.any_sender(signs=False)
    extra = rubbish.harmless_headers(desk.chance)
    case = _genuine(desk, "genuine", sender, _place(desk, sender), None, extra)
    if sender.keyed:
        desk.taken.append(case)
    return case


def again(desk: Desk) -> Case:
    """One that was sent before, byte for byte."""
    if not desk.taken:
        return genuine(desk)
    old = desk.chance.choice(desk.taken)
    return Case(
        "again", old.endpoint, old.marker, old.claim, old.pieces, TAKEN, checksum=old.checksum
    )


def at_the_limit(desk: Desk) -> Case:
    """Just not too large."""
    sender = desk.any_sender()
    return _genuine(desk, "at the limit", sender, _place(desk, sender), LIMIT)


def too_large(desk: Desk) -> Case:
    """One byte too large, or many; the length is told, or is not."""
    chance, sender = desk.chance, desk.any_sender()
    size = chance.choice([LIMIT + 1, LIMIT + 1, LIMIT * 2, LIMIT * 20])
    marker = desk.marker()
    body = desk.body(marker, size)
    headers, query = desk.signed(sender, marker, body)
    place = _place(desk, sender)
    if chance.random() < 0.5:
        pieces = [written(path_to(place, query), headers, body)]
    else:
        chunked = [*headers, (b"Transfer-Encoding", b"chunked")]
        pieces = [written(path_to(place, query), chunked, length=False)]
        pieces += rubbish.chunks(body, chance)
    # Far beyond, the server may close while we still send, and its answer be lost.
    then = Then.LAST if size <= LIMIT * 2 else Then.END
    answers = frozenset({413, 408} if len(pieces) > 1 else {413})
    return Case("too large", place, marker, Claim.FORGED, pieces, answers, then)


def in_chunks(desk: Desk) -> Case:
    """Genuine, in chunks of odd sizes, sent in odd pieces, with extensions and trailers."""
    chance, sender = desk.chance, desk.any_sender()
    marker = desk.marker()
    body = desk.body(marker)
    headers, query = desk.signed(sender, marker, body)
    place = _place(desk, sender)
    headers.append((b"Transfer-Encoding", chance.choice([b"chunked", b"Chunked", b"CHUNKED"])))
    whole = written(path_to(place, query), headers, length=False)
    whole += b"".join(rubbish.chunks(body, chance))
    pieces = rubbish.cut(whole, chance, chance.choice([1, 2, 5, 20]))
    check = checksum_of(body)
    answers = frozenset({200, 408})
    return Case("in chunks", place, marker, Claim.GENUINE, pieces, answers, Then.LAST, check)


def in_pieces(desk: Desk) -> Case:
    """Genuine, with a length, sent in odd pieces; perhaps we wait to be told to go on."""
    chance, sender = desk.chance, desk.any_sender()
    extra = [(b"Expect", b"100-continue")] if chance.random() < 0.3 else []
    case = _genuine(desk, "in pieces", sender, _place(desk, sender), None, extra)
    case.pieces = rubbish.cut(case.pieces[0], chance, chance.choice([2, 5, 30]))
    case.answers, case.then = frozenset({200, 408}), Then.LAST
    return case


def empty(desk: Desk) -> Case:
    """Genuine, without a body. Those with an id only in the body are all the same."""
    sender = desk.any_sender()
    marker = desk.marker()
    headers, query = desk.signed(sender, marker, b"")
    place = _place(desk, sender)
    length = desk.chance.random() < 0.5
    sent = [written(path_to(place, query), headers, length=length)]
    return Case("empty", place, marker, Claim.PERHAPS, sent, TAKEN)


def forged(desk: Desk) -> Case:
    """Not signed as it should be."""
    sender = desk.any_sender()
    marker = desk.marker()
    signed, body = sender.forged(desk.body(marker), "evt" + marker.replace("-", "x"), desk.chance)
    headers = desk.headers(marker, *signed[0], *rubbish.harmless_headers(desk.chance))
    place = _place(desk, sender)
    answers = TAKEN if place.endswith(LATER) else REFUSED
    sent = [written(path_to(place, signed[1]), headers, body)]
    return Case("forged", place, marker, Claim.FORGED, sent, answers)


def of_another(desk: Desk) -> Case:
    """Signed well, for another endpoint, by another scheme or with another secret."""
    one, other = desk.any_sender(), desk.any_sender()
    marker = desk.marker()
    body = desk.body(marker)
    headers, query = desk.signed(one, marker, body)
    place = _place(desk, other)
    claim, answers = Claim.FORGED, TAKEN if place.endswith(LATER) else REFUSED
    if one is other:
        claim, answers = Claim.GENUINE, TAKEN
    sent = [written(path_to(place, query), headers, body)]
    check = checksum_of(body)
    return Case("of another", place, marker, claim, sent, answers, checksum=check)


def picky(desk: Desk) -> Case:
    """Genuine, to endpoints that are disabled, or have a rate, a content type, little room."""
    chance = desk.chance
    sender = next(it for it in desk.senders if it.name == "secret")
    place, answers = chance.choice(
        [
            ("off", {410}),
            ("rated", {200, 429}),
            ("typed", {200}),
            ("typed", {415}),
            ("narrow", {200}),
        ]
    )
    extra: Pairs = []
    if place == "typed":
        good = [b"application/json", b"Application/JSON; charset=utf-8", b"application/json;"]
        bad = [b"text/plain", b"", b"\xff", b"application/json2", b"application/json, text/plain"]
        extra = [(b"Content-Type", chance.choice(good if answers == {200} else bad))]
    case = _genuine(desk, place, sender, place, None, extra)
    case.answers = frozenset(answers)
    return case


def slow(desk: Desk) -> Case:
    """Half of the body, and then nothing more."""
    sender = desk.any_sender()
    case = _genuine(desk, "slow", sender, _place(desk, sender), 3_000)
    case.pieces = [case.pieces[0][: -desk.chance.randint(1, 2_900)]]
    case.claim, case.answers, case.then = Claim.FORGED, frozenset({408}), Then.LAST
    return case


def left_early(desk: Desk) -> Case:
    """Genuine, but the sender goes: in the headers, after them, in the body, before the answer."""
    chance, sender = desk.chance, desk.any_sender()
    case = _genuine(desk, "left early", sender, _place(desk, sender), 3_000)
    [whole] = case.pieces
    head = whole.index(b"\r\n\r\n") + 4
    at = chance.choice(
        [chance.randrange(head), head, chance.randrange(head, len(whole)), len(whole)]
    )
    case.pieces = [whole[:at]]
    case.then = chance.choice([Then.END, Then.LEAVE, Then.RESET])
    case.claim = Claim.FORGED if at < len(whole) else Claim.PERHAPS
    return case


def other_method(desk: Desk) -> Case:
    """Not a POST, to an endpoint, to nothing, or to the pages for the health."""
    chance, sender = desk.chance, desk.any_sender()
    methods = [b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"PROPFIND", b"TRACE"]
    method = chance.choice(methods)
    marker = desk.marker()
    headers, _ = desk.signed(sender, marker, b"")
    place = chance.choice([sender.name, "healthz", "readyz", "nobody", sender.name + LATER])
    shown = place in ("healthz", "readyz") and method in (b"GET", b"HEAD")
    answers = TAKEN if shown else frozenset({405, 404} if place == "nobody" else {405})
    sent = [written(path_to(place), headers, method=method)]
    case = Case("other method", place, marker, Claim.FORGED, sent, answers)
    case.is_head = method == b"HEAD"
    return case


def other_path(desk: Desk) -> Case:
    """Somewhere else, or to the same place in other words."""
    chance, sender = desk.chance, desk.any_sender()
    marker = desk.marker()
    body = desk.body(marker)
    headers, _ = desk.signed(sender, marker, body)
    target = rubbish.path(sender.name.encode(), chance)
    sent = [written(target, headers, body)]
    return Case("other path", "", marker, Claim.PERHAPS, sent, rubbish.ANY, Then.LAST)


def odd_headers(desk: Desk) -> Case:
    """Headers that are malformed, or contradict each other."""
    chance, sender = desk.chance, desk.any_sender()
    marker = desk.marker()
    body = desk.body(marker)
    headers, query = desk.signed(sender, marker, body)
    target = path_to(_place(desk, sender), query)
    sent = rubbish.malformed(target, headers, body, chance)
    claim = Claim.PERHAPS
    return Case("odd headers", "", marker, claim, [sent], rubbish.ANY, Then.END)


def repeated(desk: Desk) -> Case:
    """A signature twice, once of them wrong, or with white space or other letters around."""
    chance, sender = desk.chance, desk.any_sender()
    marker = desk.marker()
    body = desk.body(marker)
    pairs, query = sender.sign(body, "evt" + marker.replace("-", "x"))
    place = _place(desk, sender)
    headers = desk.headers(marker, *rubbish.doubled(pairs, chance))
    sent = [written(path_to(place, query), headers, body)]
    return Case("repeated", place, marker, Claim.PERHAPS, sent, frozenset({200, 400, 401}))


def wrong_length(desk: Desk) -> Case:
    """A length that is a lie, or none."""
    chance, sender = desk.chance, desk.any_sender()
    marker = desk.marker()
    body = desk.body(marker, 200)
    headers, query = desk.signed(sender, marker, body)
    target = path_to(_place(desk, sender), query)
    headers += [(b"Content-Length", value) for value in rubbish.lengths(len(body), chance)]
    sent = [written(target, headers, length=False) + body]
    return Case("wrong length", "", marker, Claim.PERHAPS, sent, rubbish.ANY, Then.END)


def bad_chunks(desk: Desk) -> Case:
    """Chunks that are malformed, lie, or never end."""
    chance, sender = desk.chance, desk.any_sender()
    marker = desk.marker()
    body = desk.body(marker)
    headers, query = desk.signed(sender, marker, body)
    headers.append((b"Transfer-Encoding", b"chunked"))
    target = path_to(_place(desk, sender), query)
    sent = [written(target, headers, length=False), rubbish.malformed_chunks(body, chance)]
    return Case("bad chunks", "", marker, Claim.PERHAPS, sent, rubbish.ANY, Then.END)


def mutated(desk: Desk) -> Case:
    """A few bytes of a whole request are other ones, or are gone, or are there twice."""
    sender = desk.any_sender()
    case = _genuine(desk, "mutated", sender, _place(desk, sender), 100)
    case.pieces = [rubbish.mutated(case.pieces[0], desk.chance)]
    case.claim, case.answers, case.then = Claim.PERHAPS, rubbish.ANY, Then.END
    return case


def noise(desk: Desk) -> Case:
    """Bytes that are nothing at all."""
    chance = desk.chance
    start = chance.choice(
        [b"", b"POST ", b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    )
    sent = [start + chance.randbytes(chance.choice([0, 1, 50, 5_000]))]
    return Case("noise", "", "", Claim.FORGED, sent, rubbish.ANY, Then.END)


KINDS: dict[Kind, float] = {
    genuine: 20,
    again: 4,
    in_chunks: 4,
    in_pieces: 4,
    empty: 2,
    at_the_limit: 0.5,
    too_large: 2,
    forged: 18,
    of_another: 4,
    picky: 6,
    slow: 0.04,
    left_early: 6,
    other_method: 5,
    other_path: 5,
    odd_headers: 6,
    repeated: 4,
    wrong_length: 4,
    bad_chunks: 4,
    mutated: 8,
    noise: 1,
}
"""Each kind, and how often it comes."""
