"""What no sender should send, byte by byte."""

from __future__ import annotations

from random import Random

from tests.fuzz_receiver.cases import Pairs, written

__all__ = [
    "ANY",
    "chunks",
    "cut",
    "doubled",
    "harmless_headers",
    "lengths",
    "malformed",
    "malformed_chunks",
    "mutated",
    "path",
]

ANY = frozenset(range(200, 500))
"""Any answer but an error of the server."""

LETTERS = bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100)) + b" \t"


def harmless_headers(chance: Random) -> Pairs:
    """Headers that are allowed, if odd, and that say nothing to a receiver."""
    if chance.random() < 0.5:
        return []
    made: Pairs = []
    for _ in range(chance.choice([1, 2, 5, 50])):
        names = [
            b"Accept",
            b"X_Under_Score",
            b"x-noise",
            b"X-NOISE",
            b"User-Agent",
            b"!#$%&'*+.^`|~",
        ]
        size = chance.choice([0, 1, 20, 20, 500])
        made.append((chance.choice(names), bytes(chance.choices(LETTERS, k=size)).strip()))
    if chance.random() < 0.1:
        made.append((b"X-Huge", b"h" * chance.choice([8_000, 30_000])))
    return made


def cut(whole: bytes, chance: Random, count: int) -> list[bytes]:
    """The same bytes in so many pieces."""
    places = sorted(chance.randrange(len(whole) + 1) for _ in range(count - 1))
    return [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True) if a < b]


def chunks(body: bytes, chance: Random) -> list[bytes]:
    """A body in chunks, well-formed, if oddly."""
    made = []
    for piece in cut(body, chance, chance.choice([1, 2, 7])) if body else []:
        size = chance.choice([b"%x", b"%X", b"0%x", b"00000%x"]) % len(piece)
        extension = chance.choice([b"", b"", b";a", b";a=b", b';a="b"'])
        made.append(size + extension + b"\r\n" + piece + b"\r\n")
    trailers = chance.choice([b"", b"", b"X-Trailer: 1\r\n", b"Authorization: Bearer no\r\n"])
    return [*made, b"0\r\n" + trailers + b"\r\n"]


def malformed_chunks(body: bytes, chance: Random) -> bytes:
    """A body in chunks that are not well-formed."""
    size = b"%x" % len(body)
    ways = [
        b"-" + size + b"\r\n" + body + b"\r\n0\r\n\r\n",
        b"0x" + size + b"\r\n" + body + b"\r\n0\r\n\r\n",
        b"\r\n" + body + b"\r\n0\r\n\r\n",
        b"zz\r\n" + body + b"\r\n0\r\n\r\n",
        b" " + size + b" \r\n" + body + b"\r\n0\r\n\r\n",
        size + b"\n" + body + b"\n0\n\n",
        b"f" * chance.choice([8, 16, 17, 40, 9_000]) + b"\r\n" + body + b"\r\n0\r\n\r\n",
        b"7fffffffffffffff\r\n" + body,
        b"%x\r\n" % (len(body) + 1) + body + b"\r\n0\r\n\r\n",
        b"%x\r\n" % (len(body) - 1) + body + b"\r\n0\r\n\r\n",
        size + b"\r\n" + body + b"\r\n",
        size + b"\r\n" + body + b"\r\n0\r\n",
        size + b"\r\n" + body + b"\r\n0\r\nContent-Length: 3\r\nX: \x00\r\n\r\n",
        size + b";" + b"e" * chance.choice([100, 20_000]) + b"\r\n" + body + b"\r\n0\r\n\r\n",
        size + b"\r\n" + body + b"\r\n0\r\n" + b"T: t\r\n" * 20_000 + b"\r\n",
        size + b"\r\n" + body + b"XX0\r\n\r\n",
        b"",
    ]
    return chance.choice(ways)


def lengths(size: int, chance: Random) -> list[bytes]:
    """Values of Content-Length that are not right, or not well-formed."""
    right = b"%d" % size
    ways = [
        [],
        [b""],
        [b"0"],
        [b"%d" % (size - 50)],
        [b"%d" % (size + 50)],
        [b"-1"],
        [b"+" + right],
        [b" " + right + b" "],
        [b"0" * 30 + right],
        [right + b"." + right],
        [b"0x" + right],
        [b"1e3"],
        [right + b", " + right],
        [right, right],
        [right, b"%d" % (size + 1)],
        [b"\xef\xbc\x91\xef\xbc\x90"],  # digits, but not of ASCII
        [b"\xb2"],
        [b"9" * chance.choice([6, 18, 19, 20, 5_000])],
        [b"18446744073709551616"],
        [b"18446744073709551816"],
        [right + b"\x00"],
        [b"_1_0"],
    ]
    return chance.choice(ways)


def doubled(pairs: Pairs, chance: Random) -> Pairs:
    """Headers of a signature with one of them twice, or spelt in another way."""
    at = chance.randrange(len(pairs))
    name, value = pairs[at]
    ways = [
        [(name, value), (name, value)],
        [(name, value), (name, b"no")],
        [(name, b"no"), (name, value)],
        [(name, b""), (name, value)],
        [(name.upper(), value)],
        [(name.lower(), b"  " + value + b"\t ")],
        [(name, value + b", " + value)],
        [(name, value + b"\xff")],
        [(name, value.swapcase())],
        [(name.replace(b"-", b"_"), value)],
        [(name, value * chance.choice([2, 100]))],
        [(name, value), (b"Authorization", b"Bearer no")],
        [(name, b"\xc3\xa9" * 10)],
        [(name, value)] * 50,
    ]
    return [*pairs[:at], *chance.choice(ways), *pairs[at + 1 :]]


def malformed(target: bytes, headers: Pairs, body: bytes, chance: Random) -> bytes:
    """A request whose headers, or whose first line, a server should not like."""
    lines = [
        b"X-Nul: a\x00b",
        b"X\x00Nul: a",
        b"X-Folded: a\r\n  b\r\n\tc",
        b"X-Space : a",
        b" X-First: a",
        b"X-No-Colon",
        b": no name",
        b"X-CR: a\rb",
        b"X-Ctl: \x01\x7f",
        b"X-\xc3\xa9: a",
        b"X-LF: a\nX-Other: b",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: \x0bchunked",
        b"Transfer-Encoding : chunked",
        b"Content-Length : 3",
        b"Content-Length: 3",
        b"Host: other.example.org",
        b"Expect: 200-ok",
        b"Connection: close, keep-alive, upgrade",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA",
        b"Content-Type: a/b\r\nContent-Type: c/d",
        b"Content-Type: \xff\xfe",
        b"X-Long: " + b"x" * 200_000,
        b"\r\n".join([b"X-Many: 1"] * 5_000),
    ]
    sent = written(target, headers, body)
    if chance.random() < 0.2:
        versions = [
            b"HTTP/1.0",
            b"HTTP/0.9",
            b"HTTP/1.2",
            b"HTTP/2.0",
            b"HTTP/11",
            b"http/1.1",
            b"",
        ]
        return sent.replace(b"HTTP/1.1", chance.choice(versions), 1)
    first, rest = sent.split(b"\r\n", 1)
    return first + b"\r\n" + chance.choice(lines) + b"\r\n" + rest


def path(endpoint: bytes, chance: Random) -> bytes:
    """A target that is no endpoint, or is one in other words."""
    ways = [
        b"/",
        b"//" + endpoint,
        b"/" + endpoint + b"/",
        b"/" + endpoint + b"?" + b"q" * chance.choice([1, 5_000]),
        b"/" + endpoint + b"#part",
        b"/" + endpoint + b";a=b",
        b"/%" + b"%02x" % endpoint[0] + endpoint[1:],
        b"/%2" + endpoint,
        b"/%zz" + endpoint,
        b"/" + endpoint + b"%00",
        b"/" + endpoint + b"%2f",
        b"/" + endpoint + b"%0d%0aX:y",
        b"/" + endpoint + b".unverified",
        b"/" + endpoint + b"-later.unverified",
        b"/.",
        b"/..",
        b"/./" + endpoint,
        b"/x/../" + endpoint,
        b"/%2e%2e/" + endpoint,
        b"/\xc3\xa9",
        b"/\xff\xfe",
        b"/%c3%a9",
        b"/%ff%fe",
        b"/%ed%a0%80",
        b"/%f0%9f%8c%bc",
        b"/%e2%80%ae",
        b"/" + b"x" * chance.choice([199, 200, 201, 5_000, 50_000]),
        b"/" + b"%41" * chance.choice([67, 200, 201]),
        b"http://hooks.example.org/" + endpoint,
        b"http://[::1/" + endpoint,
        b"http://user:pass@host:99999/" + endpoint,
        b"*",
        b"hooks.example.org:443",
        endpoint,
        b"?" + endpoint,
        b"/a\x00b",
        b"/a b",
        b"/a\tb",
        b"/" + bytes(chance.choices(LETTERS, k=30)),
        b"",
    ]
    return chance.choice(ways)


def mutated(sent: bytes, chance: Random) -> bytes:
    """The same bytes with some of the headers changed, removed, or doubled; not the marker, which
    is the first of them, and by which we know it again."""
    out = bytearray(sent)
    first = sent.index(b"\r\n")
    kept = sent.index(b"\r\n", first + 2) + 2
    most = sent.index(b"\r\n\r\n")
    for _ in range(chance.choice([1, 1, 2, 5])):
        low, high = (0, first - 12) if chance.random() < 0.2 else (kept, most - 12)
        at = chance.randrange(low, min(high, len(out)))
        way = chance.randrange(5)
        if way == 0:
            out[at : at + 1] = bytes([chance.randrange(256)])
        elif way == 1:
            del out[at : at + chance.choice([1, 2, 10])]
        elif way == 2:
            out[at:at] = chance.choice([b"\r\n", b"\x00", b":", b" ", b"\n", b"\xff", b"%", b"\r"])
        elif way == 3:
            end = at + chance.choice([1, 5, 40])
            out[at:at] = out[at : min(end, first) if low == 0 else end]
        else:
            out[at] ^= 1 << chance.randrange(8)
        if low == 0:
            return bytes(out)  # nothing is where it was
    return bytes(out)
