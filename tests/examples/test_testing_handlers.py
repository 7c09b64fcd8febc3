"""examples/testing_handlers.py: tests of handlers, run by pytest as a user would run them."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.examples.programs import ROOT


def test_pytest_passes_all_of_it() -> None:
    """With the plugin that an installed package has."""
    example = ROOT / "examples" / "testing_handlers.py"
    plugin = ["-p", "pollin_actors.testing.plugin"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugin, "-p", "no:cacheprovider", str(example)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
