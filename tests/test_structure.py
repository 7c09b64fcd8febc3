"""The rules of the structure: which way imports point, what lies where, what tests may not do."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pykka
import pytest

import pollin_actors

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pollin_actors"

# Each room may import those of lower rank, and itself.
RANKS = {
    "cli": 16,
    "web": 15,
    "testing": 15,
    "transfer": 14,
    # It watches an application; the receiver's side of it, a page to scrape, is the web's.
    "telemetry": 14,
    "application": 13,
    "loosened": 13,
    "own_actors": 12,
    "signals": 12,
    "facade": 12,
    "claiming": 11,
    "past": 11,
    "subscription": 11,
    "replay": 11,
    "rotation": 11,
    "deletion": 11,
    "handlers": 11,
    "calls": 10,
    "tree": 10,
    "settings": 9,
    "actors": 9,
    "backends": 8,
    # Those who do the work tell it what they do, so it is below them; it knows what they work on.
    "instruments": 7,
    "messages": 7,
    "records": 6,
    "declared": 6,
    "unverified": 6,
    "resources": 5,
    "endpoint": 4,
    "intake": 3,
    "signatures": 2,
    "masking": 2,
    "checking": 1,
    "request": 1,
    "secret": 1,
    "identifiers": 1,
    "state": 1,
    "errors": 0,
    "lazily": 0,
}
# Everyone may import it; it imports nothing of the others.
FOUNDATION = "otp"

THIRD_PARTY = {"pykka", "structlog"}
OPTIONAL = {
    "backends": {"psycopg", "valkey"},
    "cli": {"httpx", "rich", "uvicorn"},
    "signatures": {"cryptography"},
    "telemetry": {"opentelemetry", "prometheus_client"},
    "web": {"starlette"},
}
# Who imports this one has what it imports.
PLUGINS = {
    "pollin_actors.testing.plugin": {"pytest"},
    "pollin_actors.web.admin_api.follow_stream": {"anyio", "starlette"},
    "pollin_actors.web.admin_api.service": {"anyio", "starlette"},
    "pollin_actors.web.admin_api.stream_operations": {"anyio"},
    "pollin_actors.web.dashboard.answering": {"anyio", "starlette"},
    "pollin_actors.web.dashboard.callback": {"anyio"},
    "pollin_actors.web.dashboard.door": {"starlette"},
    "pollin_actors.web.dashboard.entrances": {"starlette"},
    "pollin_actors.web.dashboard.live": {"anyio", "starlette"},
    "pollin_actors.web.dashboard.places": {"anyio"},
    "pollin_actors.web.dashboard.render": {"jinja2"},
    "pollin_actors.web.dashboard.search": {"anyio"},
    "pollin_actors.web.dashboard.service": {"anyio", "starlette"},
    "pollin_actors.web.dashboard.supervision": {"anyio"},
}

TOP_LEVEL = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "examples",
    "pollin_actors",
    "pyproject.toml",
    "setup.cfg",
    "tests",
}
# What installing and building leave behind; version control ignores it.
LEFT_BEHIND = {"build", "dist", "htmlcov", "pollin.db", "pollin_actors.egg-info", "venv"}


class Import(NamedTuple):
    """One imported module, absolute, and where."""

    module: str
    name: str | None
    line: int
    # In a function, or for the type checker only: importing the module does not need it.
    deferred: bool


def python_files(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.py"))
    assert found, f"no modules in {folder}"
    return found


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[Import]:
    """Every import of a file, with relative ones made absolute."""
    package = list(path.relative_to(ROOT).parent.parts)

    def walk(node: ast.AST, deferred: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, node.lineno, deferred)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, deferred)
        inside = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        inside = inside or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


def room_of(module: str) -> str | None:
    """The room of ``pollin_actors`` that a module belongs to; the package itself is ``""``."""
    parts = module.split(".")
    if parts[0] != "pollin_actors":
        return None
    return parts[1] if len(parts) > 1 else ""


def rooms_imported(item: Import) -> set[str]:
    room = room_of(item.module)
    if room is None:
        return set()
    if room:
        return {room}
    # `from pollin_actors import x`: x is a room, or a public name of the package.
    assert item.name is not None, "import the module that is meant, not the whole package"
    is_room = (PACKAGE / item.name).is_dir() or (PACKAGE / f"{item.name}.py").is_file()
    return {item.name} if is_room else {""}


def may_import(importer: str, imported: str) -> bool:
    if importer in (imported, ""):
        return True
    if importer == FOUNDATION:
        return False
    if imported == FOUNDATION:
        return True
    if imported == "":
        # The package's public names come from the application: only what is above may use them.
        return RANKS[importer] > RANKS["application"]
    return RANKS[imported] < RANKS[importer]


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_imports_point_one_way() -> None:
    """Nothing imports upwards: cli, web, testing → application → actors → backends → messages,
    resources, errors; otp imports nothing of the inbox."""
    wrong = [
        f"{where(path, item.line)} imports {room or 'pollin_actors'}"
        for path in python_files(PACKAGE)
        for item in imports_of(path)
        for room in rooms_imported(item)
        if not may_import(room_of(module_of(path)) or "", room)
    ]
    assert wrong == []


def test_every_module_has_its_place_in_the_order() -> None:
    """A new module or room must be given its rank before anything may import it."""
    found = {room_of(module_of(path)) for path in python_files(PACKAGE)}
    assert found <= {*RANKS, FOUNDATION, ""}


def test_only_pykka_and_structlog_are_needed() -> None:
    """A third package is imported only inside functions, and only where an extra brings it."""
    known = {*sys.stdlib_module_names, "pollin_actors", *THIRD_PARTY}
    wrong = []
    for path in python_files(PACKAGE):
        optional = OPTIONAL.get(room_of(module_of(path)) or "", set())
        for item in imports_of(path):
            top = item.module.split(".")[0]
            if top in PLUGINS.get(module_of(path), set()):
                continue
            if top not in known and not (item.deferred and top in optional):
                wrong.append(f"{where(path, item.line)} imports {item.module}")
    assert wrong == []


def private_names_of_pykka() -> set[str]:
    names = {*dir(pykka.Actor), *dir(pykka.ActorRef)}
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def test_pykkas_private_names_are_used_in_one_module_only() -> None:
    """Only otp/actor.py knows what Pykka does not promise."""
    private = private_names_of_pykka()
    assert "_actor_ref" in private or "_handle_receive" in private, "Pykka's insides have changed"
    wrong = []
    for path in python_files(PACKAGE):
        if path == PACKAGE / "otp" / "actor.py":
            continue
        for item in imports_of(path):
            parts = item.module.split(".")
            if parts[0] == "pykka" and any(
                part.startswith("_") for part in [*parts, item.name or ""]
            ):
                wrong.append(f"{where(path, item.line)} imports {item.module}.{item.name}")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
                continue
            of_pykka = ast.unparse(node.value).split(".")[0] == "pykka"
            if (of_pykka and not node.attr.startswith("__")) or node.attr in private - own:
                wrong.append(f"{where(path, node.lineno)} uses {ast.unparse(node)}")
    assert wrong == []


def top_level_entries() -> set[str]:
    """What version control knows or would take up; without it, what lies there."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(
            command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        listed = []
    if listed:
        return {line.split("/")[0] for line in listed}
    return {entry.name for entry in ROOT.iterdir()} - LEFT_BEHIND


def test_the_top_level_holds_nothing_else() -> None:
    """Files with a place in a folder do not lie about at the top."""
    visible = {name for name in top_level_entries() if not name.startswith(".")}
    assert visible <= TOP_LEVEL | {"__pycache__"}


@pytest.mark.parametrize("folder", ["tests", "examples"])
def test_nothing_sleeps(folder: str) -> None:
    """Tests and examples wait for events, never for time to pass."""
    sleeping = [
        where(path, node.lineno)
        for path in python_files(ROOT / folder)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Attribute) and node.func.attr == "sleep")
            or (isinstance(node.func, ast.Name) and node.func.id == "sleep")
        )
    ]
    assert sleeping == []


def test_the_public_names_are_sorted_and_there() -> None:
    """The package's ``__all__`` is complete, sorted and says nothing that is not there."""
    names = pollin_actors.__all__
    assert names == sorted(names)
    assert [name for name in names if not hasattr(pollin_actors, name)] == []


# The checks themselves find what they are there to find.


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("web", "application", True),
        ("cli", "web", True),
        ("actors", "backends", True),
        ("backends", "otp", True),
        ("application", "web", False),
        ("backends", "actors", False),
        ("errors", "resources", False),
        ("otp", "errors", False),
        ("actors", "", False),
    ],
)
def test_the_order_allows_and_forbids(importer: str, imported: str, allowed: bool) -> None:
    """Downwards is allowed, upwards is not, and the runtime stands on its own."""
    assert may_import(importer, imported) is allowed


def test_no_instance_dict_is_touched_where_threads_meet() -> None:
    """Asked for by two threads at once, CPython 3.11 and 3.12 can make it twice: memory breaks."""
    touched = [
        f"{path.name}:{node.lineno}"
        for path in sorted((ROOT / "pollin_actors" / "otp").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "__dict__"
    ]
    assert touched == []
