"""The JSON schemas of what is asked and answered."""

from __future__ import annotations

from typing import Any

from pollin_actors.intake import MAX_CONTENT_TYPE, MAX_ORDER_BY, MAX_RATE, Verify
from pollin_actors.otp.children import ChildState
from pollin_actors.records import Kind
from pollin_actors.resources import (
    DEFAULT_DEDUP_FOR_S,
    DEFAULT_KEEP_FOR_S,
    DEFAULT_PHASES,
    DEFAULT_TTL_MS,
    MAX_CALLBACK_ID,
    MAX_DEDUP_FOR_S,
    MAX_ENDPOINT_ID,
    MAX_FENCE,
    MAX_ORDERING_KEY,
    MAX_PHASE,
    MAX_TIME_NS,
    MAX_TTL_MS,
    Outcome,
)
from pollin_actors.signatures import SCHEME_PATTERN
from pollin_actors.web.admin_api.validation import Schema

__all__ = ["COMPONENTS", "array", "nullable", "object_of", "ref"]

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000
MAX_NOTE = 2_000
LONGEST_WAIT = 60.0
LONGEST_FOLLOW = 60.0

_NO_NUL = "^[^\\u0000]*$"


def object_of(properties: dict[str, Schema], *required: str, **more: Any) -> Schema:
    """An object with these properties and no others."""
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    return {**schema, **more}


def whole(properties: dict[str, Schema]) -> Schema:
    """An object that has all of these properties and no others."""
    return object_of(properties, *properties)


def array(items: Schema, **more: Any) -> Schema:
    """An array of such items."""
    return {"type": "array", "items": items, **more}


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    return {**schema, "type": [schema["type"], "null"]}


def ref(name: str) -> Schema:
    """One of ``COMPONENTS``."""
    return {"$ref": f"#/components/schemas/{name}"}


def text(most: int, least: int = 1, **more: Any) -> Schema:
    """A text that every backend can store."""
    return {"type": "string", "minLength": least, "maxLength": most, "pattern": _NO_NUL, **more}


def integer(least: int = 0, most: int | None = None, **more: Any) -> Schema:
    """A whole number in bounds."""
    bounds = {"minimum": least} if most is None else {"minimum": least, "maximum": most}
    return {"type": "integer", **bounds, **more}


def _seconds(default: float | None, most: float = MAX_DEDUP_FOR_S, **more: Any) -> Schema:
    schema: Schema = {"type": "number", "minimum": 0, "maximum": most, **more}
    return schema if default is None else {**schema, "default": default}


_MOMENT = "nanoseconds since the epoch"
TIME = integer(0, MAX_TIME_NS, description=_MOMENT)
# What is stored may be from anywhere.
POSITION = integer(0, MAX_TIME_NS, default=0, description="a position")
STORED_TIME = integer(0, description=_MOMENT)
COUNT = integer(0)
PHASE = text(MAX_PHASE)
KEY = text(MAX_CALLBACK_ID, description="the id of a callback")
ENDPOINT_ID = text(
    MAX_ENDPOINT_ID,
    pattern="^[^\\s/?#]+$",
    description="printable characters without white space, '/', '?' and '#'",
)
BOOLEAN: Schema = {"type": "boolean"}
FLAG: Schema = {"type": "boolean", "default": False}
LIMIT = integer(1, MAX_LIMIT, default=DEFAULT_LIMIT, description="how many at most")
OFFSET = integer(0, 10**12, default=0, description="how many to leave out before")
CURSOR: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 2_000,
    "pattern": "^[A-Za-z0-9_-]+$",
    "description": "`next` of the page before; opaque",
}
NEXT = nullable({"type": "string", "description": "cursor of the next page; null: no more"})
NOTE = text(MAX_NOTE, 0, default="")
LEASE = _seconds(30.0, minimum=0.001, description="seconds for which the claim holds")
KINDS: Schema = {"type": "string", "enum": [kind.value for kind in Kind]}
MIN_SECRET = 8
SECRET = text(1_000, MIN_SECRET, writeOnly=True, description="only ever written; never shown again")
NAME = text(200)

FINGERPRINT: Schema = {
    "type": "string",
    "pattern": "^[0-9a-f]{8}$",
    "description": "tells secrets apart without showing them",
}

# -- endpoints -------------------------------------------------------------------------------------

_INTAKE: dict[str, Schema] = {
    "scheme": {
        "type": "string",
        "minLength": 1,
        "maxLength": 4_000,
        "pattern": SCHEME_PATTERN,
        "description": "how requests are signed: a scheme's text, such as `github`",
    },
    "verify": {"type": "string", "enum": [verify.value for verify in Verify]},
    "enabled": BOOLEAN,
    "content_types": array(
        {
            "type": "string",
            "minLength": 3,
            "maxLength": MAX_CONTENT_TYPE,
            "pattern": "^[!-~]+/[!-~]+$",
        },
        maxItems=100,
    ),
    "rate": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "maximum": MAX_RATE,
        "description": "requests per second; null: any",
    },
    "burst": nullable(integer(1, int(MAX_RATE))),
    "order_by": {
        "type": ["string", "null"],
        "maxLength": MAX_ORDER_BY,
        "pattern": "^((/([^~/\\u0000]|~[01])*)+|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+)$",
        "description": "the ordering key: a JSON pointer into bodies, or `header:` and a name",
    },
}

_SETTINGS: dict[str, Schema] = {
    "phases": array(PHASE, minItems=1, maxItems=1_000, uniqueItems=True),
    "ttl": integer(0, MAX_TTL_MS, description="milliseconds; 0: for ever"),
    "dedup_for": _seconds(None, description="seconds"),
    "keep_for": _seconds(None, description="seconds"),
    "consumes": array(PHASE, maxItems=1_000),
    "capacity": nullable(integer(0, MAX_TIME_NS)),
    "capacity_bytes": nullable(integer(0, MAX_TIME_NS)),
    "intake": object_of(_INTAKE),
}

_BY_DEFAULT: dict[str, Any] = {
    "phases": list(DEFAULT_PHASES),
    "ttl": DEFAULT_TTL_MS,
    "dedup_for": DEFAULT_DEDUP_FOR_S,
    "keep_for": DEFAULT_KEEP_FOR_S,
    "consumes": [],
    "capacity": None,
    "capacity_bytes": None,
}

_WITH_DEFAULTS = {
    name: {**schema, "default": _BY_DEFAULT[name]} if name in _BY_DEFAULT else schema
    for name, schema in _SETTINGS.items()
}

NEW_ENDPOINT = object_of({"id": ENDPOINT_ID, "secret": SECRET, **_WITH_DEFAULTS})
# Phases at least: that nothing is given is more likely a mistake.
WHOLE_ENDPOINT = object_of({"secret": SECRET, **_WITH_DEFAULTS}, "phases")
CHANGED_ENDPOINT = object_of({"secret": SECRET, **_SETTINGS})
ROTATION = object_of({"secret": SECRET, "overlap": _seconds(86_400.0, description="seconds")})

_ENDPOINT = whole(
    {
        "id": ENDPOINT_ID,
        "secret_fingerprint": FINGERPRINT,
        "old_secrets": array(whole({"fingerprint": FINGERPRINT, "until": STORED_TIME})),
        "created_at": STORED_TIME,
        **_SETTINGS,
        "intake": whole(_INTAKE),
    }
)
_ENDPOINT_AND_SECRET = object_of(
    {
        "endpoint": ref("Endpoint"),
        "secret": {
            "type": "string",
            "readOnly": True,
            "description": "where it was generated: it is shown this once",
        },
    },
    "endpoint",
)
_STATS = whole(
    dict.fromkeys(("queued", "size", "claimed", "delayed", "expired"), COUNT),
)

# -- callbacks -------------------------------------------------------------------------------------

_PAIRS = array(array({"type": "string"}, minItems=2, maxItems=2))
_BODY: Schema = {"type": "string", "description": "of the request, where it is UTF-8"}
_BASE64: Schema = {"type": "string", "description": "of the request, any bytes"}
_VALUE: Schema = {"description": "instead of a request: any value; `$` marks what JSON lacks"}

NEW_CALLBACK = object_of(
    {
        "id": KEY,
        "phase": PHASE,
        "parent": KEY,
        "ordering_key": text(MAX_ORDERING_KEY),
        "not_before": TIME,
        "fence": text(MAX_FENCE),
        "headers": {**_PAIRS, "maxItems": 1_000},
        "body": _BODY,
        "body_base64": _BASE64,
        "value": _VALUE,
    },
    allOf=[
        {"not": {"required": ["body", "body_base64"]}},
        {"not": {"required": ["value", "body"]}},
        {"not": {"required": ["value", "body_base64"]}},
        {"not": {"required": ["value", "headers"]}},
    ],
)

_CALLBACK = object_of(
    {
        "id": KEY,
        "phase": {"type": "string", "maxLength": MAX_PHASE},
        "created_at": STORED_TIME,
        "attempts": COUNT,
        "size": {**COUNT, "description": "bytes"},
        "parent": nullable(KEY),
        "root": nullable(KEY),
        "origin": nullable({"type": "string"}),
        "ordering_key": nullable(text(MAX_ORDERING_KEY)),
        "not_before": nullable(TIME),
        "fence": nullable(text(MAX_FENCE)),
        "headers": {
            **_PAIRS,
            "description": "values of those that carry credentials are **********",
        },
        "body": _BODY,
        "body_base64": _BASE64,
        "value": _VALUE,
        "unshown": {"type": "string", "description": "the type of a value that JSON cannot show"},
    },
    *("id", "phase", "created_at", "attempts", "size", "parent", "root", "origin"),
    *("ordering_key", "not_before", "fence"),
)
_OUTCOME: Schema = {"type": "string", "enum": [outcome.value for outcome in Outcome]}
_PUSHED = whole({"callback": ref("Callback"), "outcome": _OUTCOME})
_CLAIM = whole(
    {
        "endpoint_id": ENDPOINT_ID,
        "key": KEY,
        "token": {"type": "string", "description": "proves that the claim holds"},
        "until": STORED_TIME,
        "attempt": COUNT,
        "callback": ref("Callback"),
    }
)
_RECORD = whole(
    {
        "position": COUNT,
        "endpoint_id": ENDPOINT_ID,
        "callback_id": {"type": "string", "description": "empty: of the whole endpoint"},
        "kind": KINDS,
        "from_phase": nullable({"type": "string"}),
        "to_phase": nullable({"type": "string"}),
        "at": STORED_TIME,
        "by": {"type": "string"},
        "attempt": COUNT,
        "reason": {"type": "string"},
    }
)

TAKEN = object_of({"key": KEY, "phase": PHASE, "offset": OFFSET, "limit": integer(1, MAX_LIMIT)})
CLAIM = object_of(
    {
        "phase": PHASE,
        "limit": integer(1, MAX_LIMIT, default=1),
        "lease": LEASE,
        "wait": _seconds(0.0, LONGEST_WAIT, description="seconds to wait until there is something"),
        "by": text(200, 0, default=""),
    }
)
_CLAIMED: dict[str, Schema] = {"key": KEY, "token": text(200)}
ACK = object_of({**_CLAIMED, "then": PHASE}, "key", "token")
NACK = object_of(
    {**_CLAIMED, "retry_in": _seconds(0.0), "reason": NOTE, "dead_letter": PHASE}, "key", "token"
)
EXTEND = object_of({**_CLAIMED, "lease": LEASE}, "key", "token")
RELEASE = object_of(_CLAIMED, "key", "token")
DISCARD = object_of({**_CLAIMED, "reason": NOTE}, "key", "token")

MOVE = object_of({"phase": PHASE, "expect": PHASE}, "phase")
MOVE_CURSOR = object_of(
    {
        "position": TIME | {"description": "of a record"},
        "expect": TIME | {"description": "where it must be"},
        "pushes": array(NEW_CALLBACK, maxItems=MAX_LIMIT, default=[]),
    },
    "position",
)
REPLAY = object_of(
    {
        "keys": array(KEY, minItems=1, maxItems=MAX_LIMIT, description="only these callbacks"),
        "since": TIME,
        "until": TIME,
        "into": ENDPOINT_ID,
        "phase": PHASE,
        "name": NAME,
        "dry_run": FLAG,
    }
)
FOLLOW = object_of(
    {
        "endpoints": array(
            whole({"endpoint_id": ENDPOINT_ID, "position": TIME | {"description": "of a record"}}),
            maxItems=100_000,
            default=[],
            description="each from after its position on",
        ),
        "others": {
            **FLAG,
            "description": "also all others, from their beginning, and those that are yet to come",
        },
        "kinds": array(KINDS, maxItems=20),
        "seconds": _seconds(
            LONGEST_FOLLOW, LONGEST_FOLLOW, description="after which the stream ends: come again"
        ),
    }
)
FOLLOWED: Schema = {
    "type": "string",
    "description": "lines, each a Record, or `endpoint_id` and `position` alone: so far was read "
    "(0: it was deleted). Empty lines say that the server is still there.",
}
_REPLAYED = whole(
    {
        "name": {"type": "string"},
        "dry_run": BOOLEAN,
        **dict.fromkeys(("matched", "pushed", "duplicates"), COUNT),
        "ids": array(KEY, description="of the new callbacks, at most the first 1,000"),
    }
)

# -- the rest --------------------------------------------------------------------------------------

_HANDLER = whole(
    {
        "name": {"type": "string"},
        "endpoint_id": {"type": "string"},
        "phase": nullable({"type": "string"}),
        "state": {"type": "string", "enum": ["stopped", "waiting", "running", "paused"]},
        "held": COUNT,
    }
)
_STRING: Schema = {"type": "string"}
_ACTOR = whole(
    {
        "path": array(_STRING, minItems=1, description="its id, after those of all above it"),
        "type": {"type": "string", "enum": ["worker", "supervisor"]},
        "actor": nullable({"type": "string", "description": "its class; null: it does not run"}),
        "name": nullable(_STRING),
        "state": {"type": "string", "enum": [state.value for state in ChildState]},
        "generation": {**COUNT, "description": "which incarnation under its name, from 1 on"},
        "restarts": COUNT,
        "mailbox": {**COUNT, "description": "how many messages wait"},
        "uptime": {"type": ["number", "null"], "minimum": 0, "description": "seconds"},
        "strategy": nullable(_STRING),
        "unstopped": {**COUNT, "description": "children that did not end and were abandoned"},
        "left": {**COUNT, "description": "children that were left out"},
        "last_crash": {
            "anyOf": [
                whole({"at": STORED_TIME, "error": _STRING, "message": nullable(_STRING)}),
                {"type": "null"},
            ]
        },
    }
)
_CRASH = whole(
    {
        "number": {**COUNT, "description": "counted from 1 on"},
        "at": STORED_TIME,
        "supervisor": _STRING,
        "child": _STRING,
        "generation": COUNT,
        "error": {"type": "string", "description": "the class of the exception"},
        "text": {"type": "string", "description": "what it said, without what may be a secret"},
        "message": {"type": "string", "description": "the class of what was handled, or empty"},
        "frames": array({"type": "string", "description": "file, line and function"}),
    }
)
_LOADED = whole(dict.fromkeys(("endpoints", "queued", "duplicates"), COUNT))
_PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457; more members tell what the error was about",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "endpoint_id": {"type": "string"},
        "callback_id": {"type": "string"},
        "field": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail"],
}

COMPONENTS: dict[str, Schema] = {
    "Actor": _ACTOR,
    "Callback": _CALLBACK,
    "Claim": _CLAIM,
    "Crash": _CRASH,
    "Endpoint": _ENDPOINT,
    "EndpointAndSecret": _ENDPOINT_AND_SECRET,
    "Handler": _HANDLER,
    "Loaded": _LOADED,
    "Problem": _PROBLEM,
    "Pushed": _PUSHED,
    "Record": _RECORD,
    "Replayed": _REPLAYED,
    "Stats": _STATS,
}
