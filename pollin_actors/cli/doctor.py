"""``pollin doctor``: whether everything is there that an inbox needs."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, NamedTuple

from pollin_actors.backends import open_backend
from pollin_actors.backends.interface import Backend, StoredVersion
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.cli.errors import CommandError, of_error
from pollin_actors.cli.human import ago, duration, size
from pollin_actors.cli.options import Commands, add_command, backend_url, open_inbox, output_of
from pollin_actors.cli.prune import shown_version, version_of
from pollin_actors.cli.urls import without_credentials
from pollin_actors.errors import PollinError
from pollin_actors.messages import CheckReady, IndexEndpoints
from pollin_actors.otp import OtpError, ReplyFuture
from pollin_actors.settings import Settings

__all__ = ["add_parser"]

PACKAGE = "pollin-actors"
# For who works on the package itself.
NOT_FOR_USERS = {"test", "lint"}
_REQUIRED = re.compile(r"([A-Za-z0-9._-]+)[^;]*;(.*)extra\s*==\s*['\"]([^'\"]+)['\"]")
OWN = {"POLLIN_SERVER", "POLLIN_TOKEN", "POLLIN_SECRET", "POLLIN_ADMIN_TOKEN"}
LITTLE_SPACE = 200_000_000
SKEW_S = 5.0
# This was written then: whatever is before is no time of day.
EPOCH_S = 1_767_225_600


class Finding(NamedTuple):
    """One thing that was looked at."""

    state: str
    """``ok``, ``note``: nothing is wrong, but it should be known, or ``wrong``."""
    what: str
    text: str


def add_parser(commands: Commands) -> None:
    """Add the command to the parser of ``pollin``."""
    add_command(
        commands,
        "doctor",
        doctor,
        "see whether all is well: versions, extras, backend, clock, settings",
        "Look at Python, packages, extras, the settings in the environment, and the backend or the "
        "server. Nothing is made or changed. The exit code is 1 if something is wrong.",
    )


def doctor(arguments: argparse.Namespace) -> int:
    """Look at everything."""
    output = output_of(arguments)
    found = [*_python(), *_extras(), *_settings(), *_clock(), *_inbox(arguments)]
    wrong = any(finding.state == "wrong" for finding in found)
    if output.as_json:
        checks = [finding._asdict() for finding in found]
        output.document({"ok": not wrong, "checks": checks})
    else:
        for finding in found:
            output.line(f"{finding.state:<6} {finding.what:<13} {finding.text}")
    return 1 if wrong else 0


# -- this machine ----------------------------------------------------------------------------------


def _python() -> Iterator[Finding]:
    running, wanted = platform.python_version(), "3.11 or later is needed"
    good = sys.version_info >= (3, 11)
    yield Finding("ok" if good else "wrong", "python", running if good else f"{running}: {wanted}")
    if platform.python_implementation() != "CPython":
        found = platform.python_implementation()
        yield Finding("note", "python", f"{found}: the package is tested on CPython only")
    for package in (PACKAGE, "pykka", "structlog"):
        number = _version(package)
        state, unknown = ("note", "ok")[number is not None], "not installed: no version is known"
        yield Finding(state, package, number or unknown)
    # The oldest that the backend takes.
    good = sqlite3.sqlite_version_info >= (3, 25)
    text = sqlite3.sqlite_version if good else f"{sqlite3.sqlite_version}: 3.25 is needed"
    yield Finding("ok" if good else "wrong", "sqlite", text)


def _extras() -> Iterator[Finding]:
    for extra, packages in _required().items():
        found = {package: _version(package) for package in packages}
        missing = [package for package, number in found.items() if number is None]
        if missing:
            how = f'pip install "{PACKAGE}[{extra}]"'
            yield Finding("note", f"[{extra}]", f"{', '.join(missing)} not installed: {how}")
        else:
            shown = ", ".join(f"{package} {number}" for package, number in found.items())
            yield Finding("ok", f"[{extra}]", shown)


def _required() -> dict[str, list[str]]:
    """The packages of each extra, as the package itself says."""
    found: dict[str, list[str]] = {}
    try:
        lines = requires(PACKAGE) or []
    except PackageNotFoundError:
        lines = []
    for line in lines:
        match = _REQUIRED.match(line)
        # What only some platforms have is not asked for.
        if match and match[3] not in NOT_FOR_USERS and "platform" not in match[2]:
            found.setdefault(match[3], []).append(match[1])
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _settings() -> Iterator[Finding]:
    known = {f"POLLIN_{field.name.upper()}" for field in fields(Settings)} | OWN
    given = sorted(name for name in os.environ if name.startswith("POLLIN_"))
    for name in given:
        if name not in known:
            yield Finding("note", "settings", f"{name} is set, and means nothing: misspelt?")
    try:
        Settings.from_env()
    except PollinError as error:
        yield Finding("wrong", "settings", str(error))
    else:
        # Their names: the values may be secrets.
        text = ", ".join(name for name in given if name in known)
        yield Finding("ok", "settings", text or "none in the environment")


def _clock() -> Iterator[Finding]:
    now = time.time()
    if now < EPOCH_S:
        yield Finding("wrong", "clock", f"it says {ago(round(now * 1e9), 0)}: set it")
    else:
        shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
        yield Finding("ok", "clock", shown)


# -- the inbox -------------------------------------------------------------------------------------


def _inbox(arguments: argparse.Namespace) -> Iterator[Finding]:
    try:
        if _is_server(arguments):
            yield from _server(arguments)
        else:
            yield from _backend(backend_url(arguments))
    except (CommandError, PollinError, OtpError) as error:
        yield Finding("wrong", "inbox", str(of_error(error)))


def _is_server(arguments: argparse.Namespace) -> bool:
    if arguments.server is not None:
        return True
    return arguments.backend is None and bool(os.environ.get("POLLIN_SERVER"))


def _server(arguments: argparse.Namespace) -> Iterator[Finding]:
    with open_inbox(arguments) as inbox:
        inbox.ask("ready")
        yield Finding("ok", "server", f"{inbox.where} is ready, and takes the token")
        date = getattr(inbox, "date", None)
        if date:
            apart = abs(parsedate_to_datetime(date).timestamp() - time.time())
            if apart > SKEW_S:
                text = f"the server's differs by {duration(apart)}: signatures with times may fail"
                yield Finding("wrong", "clock", text)
            else:
                yield Finding("ok", "clock", "the server's is the same, to some seconds")
        found = inbox.ask("list_handlers")["handlers"]
        yield Finding("ok", "handlers", ", ".join(it["name"] for it in found) or "none")


def _backend(url: str) -> Iterator[Finding]:
    shown = without_credentials(url)
    backend = open_backend(url)
    if not backend.durable:
        yield Finding("note", "backend", f"{shown} is not durable: it ends with its process")
        return
    if isinstance(backend, SqliteBackend):
        yield from _file(backend.path)
        if not backend.path.exists():
            return
    # By opening it, it would be made, or brought up to date.
    version = version_of(backend)
    if version is not None and _would_change(version):
        what = "nothing yet" if version.found is None else shown_version(version.found)
        text = f"{shown} has {what}, and {version.wanted} is the latest"
        yield Finding("note", "schema", f"{text}: the next start brings it there, or `migrate`")
        return
    yield from _opened(backend, shown)


def _would_change(version: StoredVersion) -> bool:
    found, wanted = version
    if isinstance(found, int) and isinstance(wanted, int):
        return found < wanted  # who opens a newer one is refused, and told so
    return found != wanted


def _opened(backend: Backend, shown: str) -> Iterator[Finding]:
    backend.open(time.time_ns)
    try:
        _get(backend, CheckReady())
        durability = getattr(backend, "durability", None)
        kinds = [f"durable ({durability})" if durability else "durable"]
        kinds += ["shared by processes"] if backend.shared else []
        yield Finding("ok", "backend", f"{shown} is ready, {', '.join(kinds)}")
        endpoints = _get(backend, IndexEndpoints())
        yield Finding("ok", "endpoints", str(len(endpoints)))
        ahead = max((it.created_at for it in endpoints), default=0) / 1e9 - time.time()
        if ahead > SKEW_S:
            text = f"an endpoint was created {duration(ahead)} from now: this clock is behind"
            yield Finding("wrong", "clock", text)
    finally:
        backend.close()


def _get(backend: Backend, message: object) -> Any:
    reply = backend.execute(message)
    return reply.get() if isinstance(reply, ReplyFuture) else reply


def _file(path: Path) -> Iterator[Finding]:
    folder = path.absolute().parent
    if not folder.is_dir():
        yield Finding("wrong", "file", f"its folder {folder} is not there: make it")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        text = f"its folder {folder} cannot be written to: SQLite needs that for its log"
        yield Finding("wrong", "file", text)
    free = shutil.disk_usage(folder).free
    if free < LITTLE_SPACE:
        yield Finding("wrong", "disk", f"{size(free)} free: make room")
    else:
        yield Finding("ok", "disk", f"{size(free)} free")
    if not path.exists():
        yield Finding("note", "file", f"{path} is not there yet: what needs it makes it")
        return
    if not os.access(path, os.R_OK | os.W_OK):
        yield Finding("wrong", "file", f"{path} cannot be read and written by this user")
    mode = path.stat().st_mode & 0o777
    if os.name == "posix" and mode & 0o077:
        text = f"{path} has mode {mode:o}, and holds secrets: `chmod 600` it"
        yield Finding("note", "file", text)
    else:
        yield Finding("ok", "file", f"{path}, {size(path.stat().st_size)}, mode {mode:o}")
