"""What the tests of backends share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.stores import Stores


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    """New stores in the test's own folder."""
    return Stores(tmp_path)
