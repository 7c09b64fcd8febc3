"""Asking before something is done."""

from __future__ import annotations

from urllib.parse import quote

from pollin_actors.errors import CallbackNotFound, PhaseConflict
from pollin_actors.web.dashboard.visit import Page, Visit

__all__ = ["confirm", "still_in"]


def confirm(
    visit: Visit,
    title: str,
    text: str,
    button: str,
    back: tuple[str, ...],
    query: dict[str, str] | None = None,
) -> Page:
    """Ask before something is done: a page that sends the same form again.

    Arguments:
        visit: the request, whose form is repeated.
        title: the question.
        text: what will happen.
        button: what the button says.
        back: where one goes who will not: a path, and parts of it.
        query: of that.
    """
    fields = {n: v for n, v in visit.form.items() if n != "form_token"}
    context = {
        "title": title,
        "text": text,
        "button": button,
        "action": quote(visit.path, safe="/"),
        "fields": fields,
        "back": back,
        "back_query": query or {},
    }
    return Page("confirm.html", context)


async def still_in(visit: Visit, endpoint_id: str, key: str, phase: str) -> None:
    """See that a callback is where it was when the question was asked: somebody may have moved it
    on while another thought about it.

    Raises:
        CallbackNotFound: it has left the queue.
        PhaseConflict: it is in another phase.
    """
    found = await visit.app.callbacks.fetch(endpoint_id, key=key, timeout=visit.timeout)
    if found is None:
        raise CallbackNotFound(endpoint_id, key)
    if found.phase != phase:
        raise PhaseConflict(endpoint_id, key, phase, found.phase)
