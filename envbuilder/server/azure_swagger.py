"""`/swagger.json` in the shapes that Azure ML's tools read: Swagger 2, OpenAPI 3.0 and 3.1.

The shapes are those of azureml-inference-server-http 1.5; the columns' types, which it loses, are added as `x-columns`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import json_schema

if TYPE_CHECKING:
    from typing import Any, Dict

    from .contract import Contract

    Document = Dict[str, Any]

VERSIONS = {"2": 2.0, "2.0": 2.0, "3": 3.0, "3.0": 3.0, "3.1": 3.1}
"""What a query may ask for."""

_BEARER = {"type": "apiKey", "name": "Authorization", "in": "header", "description": "`Bearer`, a space, and the key."}
_ERROR = {"type": "object", "properties": {"message": {"type": "string"}}}
_FAILED = "What went wrong."


def describe(contract: Contract | None, *, name: str, version: float) -> Document:
    """Return the document of a version (2.0, 3.0 or 3.1)."""
    schemas = {
        "ServiceInput": service_input(contract),
        "ServiceOutput": service_output(contract),
        "ErrorResponse": _ERROR,
    }
    info = {"title": name, "description": f"Predictions of {name}.", "version": "1.0"}
    if version < 3:  # noqa: PLR2004 - Swagger's last version before OpenAPI
        return {
            "swagger": "2.0",
            "info": info,
            "schemes": ["https"],
            "consumes": ["application/json"],
            "produces": ["application/json"],
            "securityDefinitions": {"Bearer": _BEARER},
            "paths": _paths_2(),
            "definitions": schemas,
        }
    return {
        "openapi": "3.1.0" if version > 3 else "3.0.3",  # noqa: PLR2004
        "info": info,
        "security": [{"Bearer": []}],
        "paths": _paths_3(),
        "components": {"schemas": schemas, "securitySchemes": {"Bearer": _BEARER}},
    }


def service_input(contract: Contract | None) -> Document:
    """Return the schema of what is posted to `/score`."""
    inputs = (contract.inputs if contract is not None else None) or []
    params = (contract.params if contract is not None else None) or []
    if not inputs:
        data: Document = {"type": "object"}
        example: Any = {}
    elif json_schema.is_tensor(inputs):
        data, example = _tensors(inputs)
    else:
        data, example = _frame(inputs)
    taken: Document = {"type": "object"}
    if params:
        taken["required"] = [str(one["name"]) for one in params]
        taken["properties"] = {str(one["name"]): _plain(json_schema.of_param(one)) for one in params}
    defaults = {str(one["name"]): one.get("default") for one in params}
    return {
        "type": "object",
        "properties": {"input_data": data, "params": taken},
        "example": {"input_data": example, "params": defaults},
    }


def service_output(contract: Contract | None) -> Document:
    """Return the schema of an answer."""
    outputs = (contract.outputs if contract is not None else None) or []
    if not outputs or (json_schema.is_tensor(outputs) and len(outputs) > 1):
        return {"type": "object", "example": {}}
    if json_schema.is_tensor(outputs):
        return {**_array(outputs[0]), "example": json_schema.example_of(outputs[0])}
    found: Document = {"type": "array", "items": {"type": "object"}, "example": []}
    return {**found, "format": "pandas.DataFrame:records", "x-columns": _columns(outputs)}


def _frame(inputs: list[Document]) -> tuple[Document, Document]:
    names = [str(one.get("name", number)) for number, one in enumerate(inputs)]
    rows = {"type": "array", "items": {"type": "object"}}
    data = {
        "type": "object",
        "required": ["columns", "index", "data"],
        "properties": {"columns": {"type": "array", "items": {"type": "string"}}, "index": rows, "data": rows},
        "format": "pandas.DataFrame:split",
        "x-columns": _columns(inputs),
    }
    return data, {"columns": names, "index": [], "data": []}


def _tensors(inputs: list[Document]) -> tuple[Document, Any]:
    if len(inputs) == 1 and not inputs[0].get("name"):
        return _array(inputs[0]), json_schema.example_of(inputs[0])
    named = {str(one["name"]): one for one in inputs}
    properties = {name: _array(one) for name, one in named.items()}
    example = {name: json_schema.example_of(one) for name, one in named.items()}
    return {"type": "object", "required": list(named), "properties": properties}, example


def _array(entry: Document) -> Document:
    return {**_plain(json_schema.of_tensor(entry)), "format": "numpy.ndarray"}


def _plain(schema: Document) -> Document:
    """Return the schema in the words of Azure's: types and formats."""
    found = {key: value for key, value in schema.items() if key in ("type", "format")}
    return {**found, "items": _plain(schema["items"])} if "items" in schema else found


def _columns(entries: list[Document]) -> list[Document]:
    return [
        {
            **{key: value for key, value in one.items() if key == "name"},
            **json_schema.of_entry(one),
            "required": json_schema.is_required(one),
        }
        for one in entries
    ]


def _paths_2() -> Document:
    failed = {"description": _FAILED, "schema": {"$ref": "#/definitions/ErrorResponse"}}
    text = {"type": "string"}
    healthy = {"description": "The server runs.", "schema": text, "examples": {"application/json": "Healthy"}}
    body = {
        "name": "serviceInputPayload",
        "in": "body",
        "description": "What to predict from.",
        "schema": {"$ref": "#/definitions/ServiceInput"},
    }
    predicted = {"description": "The predictions.", "schema": {"$ref": "#/definitions/ServiceOutput"}}
    asked = {"name": "version", "in": "query", "required": False, "type": "integer", "enum": [2, 3]}
    return {
        "/": {"get": {"operationId": "ServiceHealthCheck", "responses": {"200": healthy, "default": failed}}},
        "/score": {
            "post": {
                "operationId": "RunMLService",
                "security": [{"Bearer": []}],
                "parameters": [body],
                "responses": {"200": predicted, "default": failed},
            }
        },
        "/swagger.json": {
            "get": {
                "operationId": "GetSwaggerSpec",
                "parameters": [asked],
                "responses": {"200": {"description": "This document.", "schema": text}, "default": failed},
            }
        },
    }


def _paths_3() -> Document:
    def json_of(name: str) -> Document:
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}

    failed = {"description": _FAILED, "content": json_of("ErrorResponse")}
    healthy = {"text/plain": {"schema": {"type": "string", "example": "Healthy"}}}
    asked = {"name": "version", "in": "query", "required": False, "schema": {"type": "integer", "enum": [2, 3]}}
    document = {"description": "This document.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {
        "/": {
            "get": {
                "operationId": "ServiceHealthCheck",
                "responses": {"200": {"description": "The server runs.", "content": healthy}, "default": failed},
            }
        },
        "/score": {
            "post": {
                "operationId": "RunMLService",
                "security": [{"Bearer": []}],
                "requestBody": {"description": "What to predict from.", "content": json_of("ServiceInput")},
                "responses": {
                    "200": {"description": "The predictions.", "content": json_of("ServiceOutput")},
                    "default": failed,
                },
            }
        },
        "/swagger.json": {
            "get": {
                "operationId": "GetSwaggerSpec",
                "parameters": [asked],
                "responses": {"200": document, "default": failed},
            }
        },
    }
