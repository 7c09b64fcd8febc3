"""Lists come in pages that fit together, whatever happens meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from pollin_actors import Endpoint
from tests.web.admin_api.api import Api


def pages(api: Api, path: str, of: str, limit: int, meanwhile: Any) -> list[str]:
    """The ids of all pages of a list."""
    found: list[str] = []
    query: dict[str, Any] = {"limit": limit}
    while True:
        page = api.get(path, **query)
        assert len(page[of]) <= limit
        found += [item["id"] for item in page[of]]
        if page["next"] is None:
            return found
        query["cursor"] = page["next"]
        meanwhile(page[of])


@pytest.mark.parametrize("limit", [1, 2, 7])
@pytest.mark.parametrize("path", ["/callbacks", "/past"])
def test_pages_of_callbacks_while_others_are_pushed_and_popped(
    api: Api, path: str, limit: int
) -> None:
    """What is there all the while comes exactly once, in order."""
    stays = [f"{number:02}" for number in range(20)]
    for id in stays:
        api.push(id)
    added = iter(range(100))

    def meanwhile(page: Any) -> None:
        api.push(f"new-{next(added)}")
        api.app.callbacks.delete("orders", key=page[-1]["id"]).get()

    found = pages(api, path, "callbacks", limit, meanwhile if limit > 1 else lambda page: None)
    assert [id for id in found if not id.startswith("new-")] == stays
    assert len(set(found)) == len(found)


def test_pages_of_endpoints_while_others_come_and_go(api: Api) -> None:
    """Also those that were created at the same moment."""
    for number in range(9):
        endpoint = Endpoint.new(id=f"e{number}").replace(created_at=number // 3)
        api.app.endpoints.create(endpoint).get()

    def meanwhile(page: Any) -> None:
        api.app.endpoints.delete(page[-1]["id"]).get()
        late = Endpoint.new(id=f"late-{page[-1]['id']}").replace(created_at=0)
        api.app.endpoints.create(late).get()

    found = pages(api, "//endpoints", "endpoints", 2, meanwhile)
    stays = [id for id in found if not id.startswith("late-")]
    assert stays == [*(f"e{number}" for number in range(9)), "orders"]


def test_pages_of_records(api: Api) -> None:
    """Each record once, until the end is told."""
    for number in range(10):
        api.push(str(number))
    found: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    while not (page := api.get("/records", **query))["end"]:
        found += [record["callback_id"] for record in page["records"]]
        query["cursor"] = page["next"]
    assert found == [str(number) for number in range(10)]


def test_a_cursor_is_of_its_list_only(api: Api) -> None:
    """One of another list would begin somewhere; it is refused."""
    for number in range(3):
        api.push(str(number))
    cursor = api.get("/callbacks", limit=1)["next"]
    answer = api.request("GET", "/past", params={"cursor": cursor})
    assert api.problem(answer, 422, "invalid-value")["field"] == "query.cursor"
