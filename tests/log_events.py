"""Every event that the package logs, as its source says: name, levels and keys."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["PACKAGE", "Logged", "events", "unnamed"]

PACKAGE = Path(__file__).resolve().parents[1] / "pollin_actors"
NAME = re.compile(r"[a-z][a-z_]*\.[a-z][a-z_]*")
LEVELS = ("debug", "info", "warning", "error", "critical")

# Functions that log what they are given: the level that they give it, the keys that they add.
WRAPPERS: dict[str, tuple[str, set[str]]] = {
    "log_exception": ("error", {"exc_info"}),
    "exception": ("error", {"exc_info"}),
    "_say": ("", {"handler", "endpoint_id"}),
    "say": ("", {"handler", "endpoint_id", "callback_id", "attempt", "more"}),
    "unexpected": ("error", {"endpoint", "more", "exc_info"}),
    "refused": ("warning", {"endpoint", "more", "reason"}),
    "unavailable": ("warning", {"endpoint", "more", "error", "reason"}),
}
# What a verdict says is logged where it is settled.
VERDICT = {"handler.failed": "warning", "handler.dead": "error"}
# What is said of how to log, and not logged.
HOW = {"bare"}
# Within these functions a name is handed on that others have given.
HANDED_ON = {"log_exception", "log_event", "say", "_say", "_log"}


class Logged(NamedTuple):
    """One event at one place."""

    event: str
    level: str
    keys: frozenset[str]


def events() -> Iterator[Logged]:
    """All events of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield from _of_call(node)
            elif isinstance(node, ast.ClassDef):
                yield from _of_class(node)


def unnamed() -> Iterator[str]:
    """Calls of a logger that say nothing to be found here, but in functions that hand it on."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not _is_logger(node.func):
                continue
            around = {f.name for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)}
            if not around & HANDED_ON and not list(_of_call(node)):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}"


def _is_logger(function: ast.expr) -> bool:
    if isinstance(function, ast.Call):  # getattr(log, level)(…)
        return ast.unparse(function).startswith("getattr(log,")
    if not isinstance(function, ast.Attribute) or function.attr not in (*LEVELS, "exception"):
        return False
    return ast.unparse(function.value) == "log"


def _of_call(call: ast.Call) -> Iterator[Logged]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
    texts = [text for arg in call.args for text in _texts(arg)]
    found = [text for text in texts if NAME.fullmatch(text)]
    keys = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
    keys -= HOW
    for keyword in call.keywords:
        if keyword.arg is None:
            keys.update(_dict_keys(keyword.value))
    if name == "Verdict":
        for text in found:
            yield Logged(text, VERDICT[text], frozenset())
    elif name == "lost":
        yield Logged("receiver.lost", "error", frozenset({"endpoint", "more", "error"}))
    elif name == "say" and "verdict.event" in map(ast.unparse, call.args):
        for text, level in VERDICT.items():
            yield Logged(text, level, frozenset(keys | WRAPPERS[name][1]))
    elif name in WRAPPERS:
        level, more = WRAPPERS[name]
        levels = [level] if level else [text for text in texts if text in LEVELS]
        for text in found[:1]:
            for each in levels:
                yield Logged(text, each, frozenset(keys | more))
    elif name in LEVELS and _is_logger(call.func):
        for text in found:
            yield Logged(text, name, frozenset(keys))


def _of_class(node: ast.ClassDef) -> Iterator[Logged]:
    """An event of supervision."""
    values = {
        item.target.id: item.value.value
        for item in node.body
        if isinstance(item, ast.AnnAssign)
        and isinstance(item.target, ast.Name)
        and isinstance(item.value, ast.Constant)
    }
    event = values.get("event")
    if not isinstance(event, str):
        return
    keys = {"supervisor", "child", "generation"}
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "fields":
            keys.update(_dict_keys(item))
    yield Logged(event, str(values.get("level", "debug")), frozenset(keys))


def _texts(node: ast.expr) -> list[str]:
    return [
        each.value
        for each in ast.walk(node)
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    ]


def _dict_keys(node: ast.AST) -> set[str]:
    keys: set[str] = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Dict):
            keys.update(key.value for key in each.keys if isinstance(key, ast.Constant))  # type: ignore[misc]
        elif isinstance(each, ast.Subscript) and isinstance(each.ctx, ast.Store):
            keys.update(_texts(each.slice))
    return keys
