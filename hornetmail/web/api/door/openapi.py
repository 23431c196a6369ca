"""OpenAPI 3.1, generated from the operations that serve it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import msgspec

from hornetmail.access.rights import Right
from hornetmail.web.api.operations import Operation, Raw

PREFIX = "/api/v1"


class Problem(msgspec.Struct, frozen=True):
    """Why something was not done: ``code`` is stable, ``text`` is for people."""

    code: str
    text: str


class ErrorBody(msgspec.Struct, frozen=True):
    """What every answer from 400 on holds."""

    error: Problem


def describe(operations: Iterable[Operation[Any, Any]], version: str) -> dict[str, Any]:
    """The document."""
    listed = list(operations)
    types = [ErrorBody]
    for operation in listed:
        types += [kind for kind in (operation.request, operation.response) if kind is not Raw and kind not in types]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    references = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in listed:
        described = _operation(operation, references, components)
        paths.setdefault(PREFIX + operation.path, {})[operation.method.lower()] = described
    for operation in listed:
        components.pop(operation.request.__name__, None)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "HornetMail",
            "version": version or "0",
            "description": "Panel, command line and scripts use this one API.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "password": {"type": "http", "scheme": "basic", "description": "Full mail address and password."},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "hornetmail",
                    "description": "With the header X-CSRF-Token on writes.",
                },
            },
        },
    }


def _operation(operation: Operation[Any, Any], references: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    schema = components[operation.request.__name__]
    properties: dict[str, Any] = schema.get("properties", {})
    required = set(schema.get("required", ()))
    in_query = operation.method in ("GET", "DELETE")
    parameters = []
    for name, kind in properties.items():
        place = "path" if name in operation.in_path else "query" if in_query else ""
        if place:
            parameters.append({"name": name, "in": place, "required": place == "path" or name in required, "schema": kind})
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": inspect.cleandoc(operation.run.__doc__ or ""),
        "tags": [operation.path.split("/")[1]],
        "parameters": parameters,
        "responses": {"200": _answer(operation, references), "default": _json("Why it was not done", references[ErrorBody])},
        "security": [] if operation.right is Right.ANYBODY else [{"password": []}, {"session": []}],
        "x-right": operation.right.value,
    }
    body = {name: kind for name, kind in properties.items() if name not in operation.in_path}
    if body and not in_query:
        wanted = [name for name in schema.get("required", ()) if name in body]
        whole: dict[str, Any] = {
            "type": "object",
            "description": schema.get("description", ""),
            "properties": body,
            "required": wanted,
            "additionalProperties": False,
        }
        described["requestBody"] = {"required": bool(wanted), "content": {"application/json": {"schema": whole}}}
    return described


def _answer(operation: Operation[Any, Any], references: dict[Any, Any]) -> dict[str, Any]:
    if operation.response is Raw:
        return {
            "description": "The exact bytes",
            "content": {"message/rfc822": {"schema": {"type": "string", "contentMediaType": "message/rfc822"}}},
        }
    return _json("Done", references[operation.response])


def _json(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
