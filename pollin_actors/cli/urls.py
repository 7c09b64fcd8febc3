"""URLs that are shown: without what stands in them that nobody else should see."""

from __future__ import annotations

import re

__all__ = ["without_credentials"]


def without_credentials(url: str) -> str:
    """A backend's URL as far as it can be shown: passwords stand before an @ or in the query."""
    return re.sub(r"://.*@", "://**********@", url).partition("?")[0]
