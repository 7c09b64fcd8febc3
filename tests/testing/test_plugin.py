"""The plugin for pytest: found by itself, light, and with a seed that a failure shows."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "pollin_actors.testing.plugin"

USER = """
from pollin_actors import Endpoint

def test_passes(pollin_tester, pollin_seed):
    tester = pollin_tester(endpoints=[Endpoint.new(id="orders")])
    tester.push("orders", id="a")
    tester.assert_received("orders", count=1)
    assert pollin_seed == 5

def test_fails(pollin_tester):
    pollin_tester(endpoints=[Endpoint.new(id="orders")]).assert_received("orders")

def test_fails_without_it():
    raise AssertionError
"""


def entry_points() -> dict[str, str]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: dict[str, str] = tomllib.load(file)["project"]["entry-points"]["pytest11"]
    return found


def install(folder: Path) -> None:
    """Put a distribution there that has our entry points, as an installed package has them."""
    metadata = folder / "pollin_installed-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: pollin-installed\nVersion: 1\n"
    )
    lines = [f"{name} = {module}" for name, module in entry_points().items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]))


@pytest.mark.parametrize("named", ["not at all", "in conftest.py", "on the command line"])
def test_the_plugin_has_fixtures(tmp_path: Path, named: str) -> None:
    """It is there by itself, and may be named as well. Failures that used it tell the seed."""
    install(tmp_path / "site")
    (tmp_path / "test_user.py").write_text(USER)
    if named == "in conftest.py":
        (tmp_path / "conftest.py").write_text(f"pytest_plugins = [{NAME!r}]")
    more = ["-p", NAME] if named == "on the command line" else []
    command = [sys.executable, "-m", "pytest", "-q", "--pollin-seed=5", *more, str(tmp_path)]
    path = os.pathsep.join([str(ROOT), str(tmp_path / "site")])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert "2 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("--pollin-seed=5") == 1


def test_the_plugin_imports_next_to_nothing() -> None:
    """Whoever has the package installed and does not test with it pays for no import of ours."""
    program = f"import {NAME}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(done.stdout.split())
    assert not {"pykka", "structlog"} & loaded
    assert {name for name in loaded if name.startswith("pollin_actors")} == {
        "pollin_actors",
        "pollin_actors.lazily",
        "pollin_actors.testing",
        NAME,
    }


def test_the_entry_point_is_named_as_its_module() -> None:
    """Else pytest would refuse it as registered twice where ``pytest_plugins`` names it too."""
    assert entry_points() == {NAME: NAME}


@pytest.mark.parametrize(
    ("package", "submodule"), [("pollin_actors", "errors"), ("pollin_actors.testing", "faulty")]
)
def test_names_are_imported_when_they_are_asked_for(package: str, submodule: str) -> None:
    """One by one, by a star, modules too; ``dir`` knows them; others are refused as ever."""
    program = f"""
import {package} as package
names = package.__all__
assert {{*names, "{submodule}"}} <= set(dir(package)), "a prompt would not complete them"
assert not set(names) & set(vars(package)), "imported already"
from {package} import *
assert set(names) <= set(vars(package)) & set(globals())
assert package.{submodule}.__name__ == "{package}.{submodule}"
try:
    package.nothing
except AttributeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == f"module '{package}' has no attribute 'nothing'\n"
