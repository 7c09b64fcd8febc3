"""What happens at endpoints, as a stream of lines that waits for more."""

from __future__ import annotations

from pollin_actors.errors import InvalidValue
from pollin_actors.records import Kind
from pollin_actors.web.admin_api import schemas as s
from pollin_actors.web.admin_api.following import Following
from pollin_actors.web.admin_api.table import Call, Follow, Operation

__all__ = ["OPERATIONS"]


async def follow(call: Call) -> Follow:
    body = call.body
    positions = {it["endpoint_id"]: it["position"] for it in body["endpoints"]}
    if not positions and not body["others"]:
        hint = "name endpoints, or have all others with others=true"
        raise InvalidValue("body.endpoints", "one at least, without others", "none", hint)
    following = Following(
        call.app,
        positions,
        others=body["others"],
        kinds=frozenset(map(Kind, body["kinds"])) if "kinds" in body else None,
        timeout=call.timeout,
    )
    # What is wrong from the start is answered as a problem.
    await following.check()
    return Follow(following, body["seconds"])


OPERATIONS = (
    Operation(
        id="follow_records",
        method="POST",
        path="/follow",
        summary="What happens at endpoints, as it happens, as lines of JSON.",
        run=follow,
        body=s.FOLLOW,
        replies={200: s.FOLLOWED},
        errors=(404,),
        streams="reply",
    ),
)
