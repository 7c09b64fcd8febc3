"""Reading values as a JSON schema describes them: the one that is published is the one that is
obeyed."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from pollin_actors.errors import InvalidValue

__all__ = ["Schema", "accept", "from_text"]

Schema: TypeAlias = dict[str, Any]

_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)


def accept(schema: Schema, value: Any, where: str) -> Any:
    """The value with the defaults of the schema filled in.

    What it knows of JSON Schema is what the schemas of this package use.

    Arguments:
        schema: what is expected.
        value: as it was parsed.
        where: how errors call it, such as ``body.ttl``.

    Raises:
        InvalidValue: it is something else; names the field.
    """
    kinds = schema.get("type")
    kind = _kind(value)
    if kinds is not None:
        allowed = [kinds] if isinstance(kinds, str) else kinds
        if kind == "number" and "number" not in allowed and value.is_integer():
            # JSON knows no difference between 1.0 and 1.
            value, kind = int(value), "integer"
        if kind not in allowed and not (kind == "integer" and "number" in allowed):
            raise InvalidValue(where, _any_of(allowed), f"a value of type {kind}")
    if "enum" in schema and value not in schema["enum"]:
        raise InvalidValue(where, _any_of(map(repr, schema["enum"])), _shown(schema, value))
    if kind == "string":
        _check_text(schema, value, where)
    elif kind in ("integer", "number"):
        _check_number(schema, value, where)
    elif kind == "array":
        return _accept_array(schema, value, where)
    elif kind == "object":
        return _accept_object(schema, value, where)
    return value


def from_text(schema: Schema, texts: list[str], where: str) -> Any:
    """The value of a parameter of a URL.

    Arguments:
        schema: what is expected; an array takes the parameter several times.
        texts: the values that were given for it, at least one.
        where: how errors call it, such as ``query.limit``.

    Raises:
        InvalidValue: it is something else; names the parameter.
    """
    if schema["type"] == "array":
        return accept(schema, [_read(schema["items"], text) for text in texts], where)
    if len(texts) > 1:
        raise InvalidValue(where, "it once", f"it {len(texts)} times")
    return accept(schema, _read(schema, texts[0]), where)


def _read(schema: Schema, text: str) -> Any:
    if schema["type"] == "integer" and _INTEGER.fullmatch(text):
        return int(text)
    if schema["type"] == "boolean" and text in ("true", "false"):
        return text == "true"
    return text


def _check_text(schema: Schema, value: str, where: str) -> None:
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if len(value) < least or (most is not None and len(value) > most):
        bounds = f"at least {least}" if most is None else f"{least} to {most}"
        raise InvalidValue(where, f"{bounds} characters", f"{len(value)} characters")
    pattern = schema.get("pattern")
    # At its end a pattern means the end; Python's would also match before a last line break.
    if pattern is not None and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        raise InvalidValue(where, f"text that matches {pattern}", _shown(schema, value))


def _check_number(schema: Schema, value: float, where: str) -> None:
    least, above, most = map(schema.get, ("minimum", "exclusiveMinimum", "maximum"))
    bounds = []
    if least is not None:
        bounds.append(f"at least {least}")
    if above is not None:
        bounds.append(f"more than {above}")
    if most is not None:
        bounds.append(f"at most {most}")
    if (
        (least is not None and value < least)
        or (above is not None and value <= above)
        or (most is not None and value > most)
    ):
        raise InvalidValue(where, f"a number, {' and '.join(bounds)}", _shown(schema, value))


def _accept_array(schema: Schema, value: list[Any], where: str) -> list[Any]:
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    if len(value) < least or (most is not None and len(value) > most):
        bounds = f"at least {least}" if most is None else f"{least} to {most}"
        raise InvalidValue(where, f"{bounds} items", f"{len(value)}")
    if schema.get("uniqueItems") and len(set(map(repr, value))) != len(value):
        raise InvalidValue(where, "items that differ", "one more than once")
    items = schema.get("items")
    if items is None:
        return value
    return [accept(items, item, f"{where}[{number}]") for number, item in enumerate(value)]


def _accept_object(schema: Schema, value: dict[str, Any], where: str) -> dict[str, Any]:
    known: dict[str, Schema] | None = schema.get("properties")
    if known is None:
        return value
    for name in schema.get("required", ()):
        if name not in value:
            raise InvalidValue(f"{where}.{name}", "a value", "none")
    for rule in schema.get("allOf", ()):
        # The one rule that is used: names that exclude each other.
        names = rule["not"]["required"]
        if all(name in value for name in names):
            raise InvalidValue(where, f"one of {', '.join(names)}", "both")
    unknown = [name for name in value if name not in known]
    if unknown:
        names = ", ".join(known) or "none"
        raise InvalidValue(where, f"fields of {names}", ascii(unknown[0])[:80])
    taken = {name: accept(known[name], item, f"{where}.{name}") for name, item in value.items()}
    defaults = {name: item["default"] for name, item in known.items() if "default" in item}
    return {**defaults, **taken}


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    for kind, name in _KINDS.items():
        if isinstance(value, kind):
            return name
    raise TypeError(f"no value of JSON: a {type(value).__name__}")


_KINDS: dict[type, str] = {
    str: "string",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
}


def _shown(schema: Schema, value: Any) -> str:
    if schema.get("writeOnly"):
        return "something else"
    if isinstance(value, int) and value.bit_length() > 1000:
        return "an integer of very many digits"
    return ascii(value)[:80]


def _any_of(names: Any) -> str:
    return " or ".join(names)
