"""What several schemes share: times, digests, comparing, keys, checks of options."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from pollin_actors.checking import describe
from pollin_actors.errors import InvalidValue
from pollin_actors.secret import Secret
from pollin_actors.signatures.interface import Refused, Verified

__all__ = [
    "DEFAULT_TOLERANCE",
    "MAX_ID",
    "MAX_SIGNATURES",
    "body_key",
    "check_no_space_around",
    "check_time",
    "digest_of",
    "json_object",
    "key_from_bytes",
    "key_from_text",
    "missing",
    "none_matches",
    "read_choice",
    "read_header_name",
    "read_line",
    "read_tolerance",
    "repeated",
    "tag",
    "who_signed",
]

DEFAULT_TOLERANCE = 300.0
# Longer than any sender retries with one timestamp.
MAX_TOLERANCE = 30 * 86_400.0
# Of one request. Those who rotate send two or three; each one more costs work.
MAX_SIGNATURES = 16
MAX_ID = 500
# 11 digits last until the year 5138, and no int of them is slow to read.
_MAX_DIGITS = 11
_NAME_CHARACTERS = frozenset(
    "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

NO_TIME = Refused("the timestamp is not a whole number of seconds since 1970")


def missing(header: str) -> Refused:
    return Refused(f"the header {header} is missing")


def repeated(*headers: str) -> Refused:
    which = headers[0] if len(headers) == 1 else f"one of the headers {', '.join(headers)}"
    return Refused(f"{which} is there more than once")


def none_matches(what: str, secrets: Sequence[Secret]) -> Refused:
    count = len(secrets)
    of = "the secret" if count == 1 else f"any of {count} secrets"
    return Refused(f"no {what} matches {of}; is the body unchanged, and the secret this sender's?")


def check_time(stamp: bytes, now: float, tolerance: float) -> Refused | None:
    """None if a timestamp, as it came, is near enough to now; both in seconds since the epoch."""
    # bytes.isdigit knows the ten of ASCII only.
    if not stamp.isdigit() or len(stamp) > _MAX_DIGITS:
        return NO_TIME
    age = now - int(stamp)
    if -tolerance <= age <= tolerance:
        return None
    if not math.isfinite(age):
        return Refused("the present time is not known")
    where = "old" if age > 0 else "ahead"
    return Refused(f"the timestamp is {math.ceil(abs(age))} s {where}, {tolerance:g} are allowed")


def tag(secret: Secret, material: bytes, algorithm: str = "sha256") -> bytes:
    """The HMAC of what is signed, with the text of the secret as the key."""
    return hmac.digest(secret.encode(), material, algorithm)


def who_signed(
    secrets: Sequence[Secret], given: Sequence[bytes], expected: Callable[[Secret], bytes]
) -> Secret | None:
    """The first of the secrets that has made one of these signatures.

    All are compared with all, whatever is found: how long it takes tells only how many there are.
    """
    found: Secret | None = None
    for secret in secrets:
        wanted = expected(secret)
        for signature in given:
            if hmac.compare_digest(wanted, signature) and found is None:
                found = secret
    return found


def digest_of(*parts: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(b"".join(parts)).hexdigest()


def key_from_bytes(raw: bytes | None, limit: int = MAX_ID) -> str | None:
    """An id out of a header as a key, or None if it cannot be one."""
    if not raw:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if len(text) <= limit and "\0" not in text else None


def key_from_text(value: object) -> str | None:
    """An id out of JSON as a key, or None if it cannot be one."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID or "\0" in value:
        return None
    return None if any("\ud800" <= c <= "\udfff" for c in value) else value


def body_key(identifier: bytes | None, digest: str, secret: Secret) -> Verified:
    """What was verified, where the id is not signed: only together with a digest it is a key.

    Whoever has one genuine request may send it again with any id, or none: the fence is the same.
    """
    text = key_from_bytes(identifier, MAX_ID - len(digest) - 1)
    return Verified(digest if text is None else f"{text}:{digest}", digest, secret)


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is, or an empty one if it is anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def check_no_space_around(secret: Secret) -> None:
    text = secret.reveal()
    if text != text.strip():
        hint = "it may have been read with the end of its line"
        raise InvalidValue("secret", "no white space around it", "some", hint)


def read_tolerance(name: str, value: object) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0 <= value <= MAX_TOLERANCE
    ):
        expected = f"a number of seconds, at least 0 and at most {MAX_TOLERANCE:.0f}"
        raise InvalidValue(name, expected, describe(value))
    return float(value)


def read_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise InvalidValue(name, f"one of {', '.join(choices)}", describe(value))


def read_line(name: str, value: object, limit: int) -> str:
    """A text of printable ASCII, perhaps empty."""
    if not isinstance(value, str) or len(value) > limit:
        got = f"{len(value)} characters" if isinstance(value, str) else describe(value)
        raise InvalidValue(name, f"a str of at most {limit} characters", got)
    if not (value.isascii() and value.isprintable()):
        raise InvalidValue(name, "printable ASCII", ascii(value)[:80])
    return value


def read_header_name(name: str, value: object, *, optional: bool = False) -> None:
    text = read_line(name, value, 100)
    if not text and optional:
        return
    if not text or not _NAME_CHARACTERS.issuperset(text):
        raise InvalidValue(name, "the name of a header, such as X-Signature", describe(text))
