"""Pykka's own test suite, run with our actors as its runtime, and with Pykka's adopted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

EXCEPTED = (
    # They demand that an exception in one actor stops every actor of the process.
    "tests/test_actor.py::test_all_actors_are_stopped_on_base_exception",
    "tests/test_logging.py::test_base_exception_is_logged",
)

RUNTIMES = """
from pykka import ThreadingActor as _ThreadingActor
from pollin_actors.otp.actor import Actor as _OurActor, BlockingActor as _OurBlockingActor
from pollin_actors.otp.adoption import adopt as _adopt
from pollin_actors.otp.futures import ReplyFuture as _OurFuture


class _Pooled(_OurActor):
    replies = (Exception,)


class _Blocking(_OurBlockingActor):
    replies = (Exception,)


class _Adopted(_ThreadingActor):
    replies = (Exception,)

    @classmethod
    def start(cls, *args, **kwargs):
        # As a supervisor does it: the suite's own classes are adopted, not only their base.
        return super(_Adopted, _adopt(cls)).start(*args, **kwargs)


RUNTIMES = {
    name: pytest.param(
        Runtime(
            name=name,
            actor_class=actor_class,
            event_class=threading.Event,
            future_class=_OurFuture,
            sleep_func=time.sleep,
        ),
        id=name,
    )
    for name, actor_class in {
        "pooled": _Pooled, "blocking": _Blocking, "adopted": _Adopted
    }.items()
}
"""


def find_distribution(folder: Path) -> Path | None:
    """Pykka's source distribution: where PYKKA_SDIST says, or as pip gets it."""
    given = os.environ.get("PYKKA_SDIST")
    if given:
        return Path(given)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--dest", str(folder), "pykka==4.5.*"]
    done = subprocess.run(command, check=False, capture_output=True, timeout=90)
    archives = sorted(folder.glob("pykka-*.tar.gz"))
    return archives[-1] if done.returncode == 0 and archives else None


@pytest.mark.timeout(300)
def test_pykkas_own_suite_passes_with_our_actors(tmp_path: Path) -> None:
    """Pooled, blocking and adopted actors are faithful runtimes, but for two tests named above."""
    source = find_distribution(tmp_path)
    if source is None:
        if os.environ.get("CI"):
            pytest.fail("in CI Pykka's source distribution must be there: pip could not get it")
        pytest.skip("no source distribution of Pykka: pip cannot get one, PYKKA_SDIST is not set")
    if source.is_file():
        with tarfile.open(source) as archive:
            archive.extractall(tmp_path / "source", filter="data")
        (source,) = (tmp_path / "source").iterdir()
    suite = tmp_path / "suite"
    shutil.copytree(source / "tests", suite / "tests")
    conftest = suite / "tests" / "conftest.py"
    text = conftest.read_text()
    marker = '\n\n@pytest.fixture(scope="session", params=RUNTIMES.values())'
    assert marker in text, "Pykka's conftest.py has changed: the runtimes must be put in elsewhere"
    conftest.write_text(text.replace(marker, "\n" + RUNTIMES + marker))

    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
    for name in EXCEPTED:
        for runtime in ("pooled", "blocking", "adopted"):
            command += ["--deselect", f"{name}[{runtime}]"]
    done = subprocess.run(
        [*command, "--timeout", "60", "tests"],
        check=False,
        cwd=suite,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "6 deselected" in done.stdout, done.stdout[-2000:]
    assert "skipped" not in done.stdout
