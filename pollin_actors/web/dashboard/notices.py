"""What a page says after something was done: by name, so that no URL puts words in its mouth."""

from __future__ import annotations

__all__ = ["NOTICES"]

NOTICES = {
    "again": "It is being verified again. What does not verify comes back.",
    "deleted": "The callback was deleted.",
    "disabled": "The endpoint is disabled: requests for it are answered 410.",
    "discarded": "It was discarded.",
    "enabled": "The endpoint is enabled.",
    "moved": "The callback was moved.",
    "paused": "The handler is paused: it takes no more, and what it had begun goes on.",
    "replayed": "A new callback with the same request was queued: this one.",
    "resumed": "The handler goes on.",
    "retried": "It is tried again.",
    "rotated": "The endpoint has its new secret; the one before is valid for a while yet.",
}
