"""The OpenAPI document, made from the table that the routes are made from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pollin_actors.web.admin_api.schemas import COMPONENTS, ref
from pollin_actors.web.admin_api.table import Operation

__all__ = ["NDJSON", "document"]

NDJSON = "application/x-ndjson"
PROBLEM = "application/problem+json"

_TITLES = {
    400: "The request could not be read.",
    401: "The token is missing or wrong.",
    404: "There is no such endpoint, callback or handler.",
    408: "The request came too slowly.",
    409: "Something is not as it was expected to be; nothing was changed.",
    413: "The body, or the callback in it, is too large.",
    415: "The body is of another type.",
    422: "A value is not acceptable; `field` names it.",
    503: "The inbox cannot answer now, or the endpoint is full: try again after Retry-After.",
}
_DONE = {200: "Done.", 201: "Created.", 204: "Done."}


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The document as a value of JSON.

    Arguments:
        operations: all routes.
    """
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pollin_actors admin API",
            "version": "1",
            "description": "Every operation on endpoints and callbacks of a webhook inbox.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": COMPONENTS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": _responses(operation),
    }
    parameters = _parameters(operation)
    if parameters:
        told["parameters"] = parameters
    if operation.body is not None:
        media = NDJSON if operation.streams == "body" else "application/json"
        told["requestBody"] = {
            "required": bool(operation.body.get("required")) or operation.streams == "body",
            "content": {media: {"schema": operation.body}},
        }
    return told


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    if "{endpoint_id}" in operation.path:
        schema = COMPONENTS["Endpoint"]["properties"]["id"]
        parameters.append({"name": "endpoint_id", "in": "path", "required": True, "schema": schema})
    for name, schema in operation.query.items():
        required = name in operation.required
        parameters.append({"name": name, "in": "query", "required": required, "schema": schema})
    return parameters


def _responses(operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, schema in operation.replies.items():
        responses[str(status)] = {"description": _DONE[status]}
        if schema is not None:
            media = NDJSON if operation.streams == "reply" else "application/json"
            responses[str(status)]["content"] = {media: {"schema": schema}}
    for status in sorted(statuses_of(operation)):
        content = {PROBLEM: {"schema": ref("Problem")}}
        responses[str(status)] = {"description": _TITLES[status], "content": content}
    return responses


def statuses_of(operation: Operation) -> set[int]:
    """The statuses of the problems that a route may answer."""
    statuses = {400, 401, 422, 503, *operation.errors}
    if "{endpoint_id}" in operation.path:
        statuses.add(404)
    if operation.body is not None:
        statuses |= {408, 413, 415}
    return statuses
