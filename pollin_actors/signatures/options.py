"""Schemes as one line of text: the name, and the options that are not as by default."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from pollin_actors.checking import describe
from pollin_actors.errors import InvalidValue

if TYPE_CHECKING:
    from pollin_actors.signatures.interface import Scheme

__all__ = ["pattern_of", "read_options", "write"]

_MAX_OPTIONS = 100

# Printable ASCII, of which one character separates.
_VALUES = {"float": "[0-9]+([.][0-9]+)?(e-?[0-9]+)?", "int": "[0-9]+", "bool": "(true|false)"}
_ANY_VALUE = "[ -%'-~]*"


def write(scheme: Scheme) -> str:
    """A scheme as one line, such as ``slack?tolerance=60.0``."""
    options = []
    for field in fields(scheme):
        value = getattr(scheme, field.name)
        if value != field.default:
            for one in value if isinstance(value, tuple) else (value,):
                options.append((field.name, _written(one)))
    return f"{scheme.name}?{urlencode(options)}" if options else scheme.name


def pattern_of(kinds: Iterable[type[Scheme]]) -> str:
    """A regular expression that the texts of schemes match, also as they are written by hand."""
    return f"^({'|'.join(map(_pattern, kinds))})$"


def _pattern(kind: type[Scheme]) -> str:
    options = [f"{field.name}={_VALUES.get(_type_of(field), _ANY_VALUE)}" for field in fields(kind)]
    if not options:
        return kind.name
    one = f"({'|'.join(options)})"
    more = f"[?]{one}(&{one})*"
    demanded = any(field.default is MISSING for field in fields(kind))
    return kind.name + (more if demanded else f"([?]|{more})?")


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_options(kind: type[Scheme], text: str) -> dict[str, Any]:
    """The arguments of a scheme, out of what follows its name and the question mark.

    Raises:
        InvalidValue: there is no such option, it is there twice, or it is not of its type.
    """
    known = {field.name: field for field in fields(kind)}
    options: dict[str, Any] = {}
    for name, value in _pairs(kind, text):
        if name not in known:
            expected = f"an option out of {', '.join(known)}" if known else "no option"
            raise InvalidValue(f"scheme {kind.name!r}", expected, describe(name))
        if _type_of(known[name]) == "tuple[str, ...]":
            options[name] = (*options.get(name, ()), value)
        elif name in options:
            raise InvalidValue(_named(kind, name), "one value", "more than one")
        else:
            options[name] = _read(kind, known[name], value)
    for name, field in known.items():
        if field.default is MISSING and name not in options:
            hint = f"write {kind.name}?{name}=…"
            raise InvalidValue(_named(kind, name), "a value", "none", hint)
    return options


def _pairs(kind: type[Scheme], text: str) -> list[tuple[str, str]]:
    if not text:
        return []
    try:
        return parse_qsl(
            text,
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MAX_OPTIONS,
        )
    except ValueError:
        expected = "options as in a URL, such as tolerance=60&header=X-Signature"
        raise InvalidValue(f"scheme {kind.name!r}", expected, describe(text)) from None


def _read(kind: type[Scheme], field: Field[Any], value: str) -> Any:
    wanted = _type_of(field)
    if wanted == "str":
        return value
    try:
        if wanted == "bool":
            return {"true": True, "false": False}[value]
        return {"int": int, "float": float}[wanted](value)
    except (ValueError, KeyError):
        expected = {"bool": "true or false", "int": "an int", "float": "a number"}[wanted]
        raise InvalidValue(_named(kind, field.name), expected, describe(value)) from None


def _type_of(field: Field[Any]) -> str:
    # A text, because modules of schemes postpone their annotations.
    return str(field.type)


def _named(kind: type[Scheme], option: str) -> str:
    return f"option {option} of scheme {kind.name!r}"
