"""URLs that are shown: without what stands in them that nobody else should see."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

__all__ = ["http_url", "without_credentials"]


def http_url(text: str) -> SplitResult | None:
    """The parts of a URL that something can be sent to; None for any other text."""
    try:
        url = urlsplit(text)
        fits = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return None
    return url if fits and text.isprintable() and " " not in text else None


def without_credentials(url: str) -> str:
    """A backend's URL as far as it can be shown: passwords stand before an @ or in the query."""
    return re.sub(r"://.*@", "://**********@", url).partition("?")[0]
