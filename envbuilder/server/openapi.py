"""The description of the server as OpenAPI 3.1, from the model's signature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import json_schema

if TYPE_CHECKING:
    from typing import Any, Dict

    from .contract import Contract

    Document = Dict[str, Any]

_ERROR = {
    "type": "object",
    "required": ["error_code", "message"],
    "properties": {
        "error_code": {"type": "string"},
        "message": {"type": "string"},
        "stack_trace": {"type": "string"},
        "exception": {"type": "string"},
    },
}


def describe(contract: Contract | None, *, title: str, example: Any = None, has_token: bool = False) -> Document:  # noqa: ANN401
    """Return the document; `example` is a request that the model is known to answer."""
    schemas = {"Request": request(contract), "Answer": answer(contract), "Error": _ERROR}
    if example is None:
        example = example_request(contract)
    document: Document = {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": "1.0",
            "description": "Predictions of an MLflow model, in the forms of MLflow's own scoring server.",
        },
        "paths": {
            "/invocations": {"post": _invocations(example)},
            "/ping": {"get": _probe("Tells whether the model is loaded.")},
            "/livez": {"get": _probe("Tells whether the server runs.", always=True)},
            "/version": {"get": _text("The version of MLflow in the model's environment.")},
            "/metrics": {"get": _text("Measurements in the text format of Prometheus.")},
        },
        "components": {"schemas": schemas},
    }
    if has_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def request(contract: Contract | None) -> Document:
    """Return the schema of a request's body: one of MLflow's forms, and parameters where the model takes some."""
    inputs = (contract.inputs if contract is not None else None) or []
    params = (contract.params if contract is not None else None) or []
    forms = _tensor_forms(inputs) if json_schema.is_tensor(inputs) else _column_forms(inputs)
    more = {"params": _params(params)} if params else {}
    return {
        "oneOf": [
            {
                "type": "object",
                "title": name,
                "required": [name],
                "properties": {name: schema, **more},
                "additionalProperties": False,
            }
            for name, schema in forms.items()
        ]
    }


def answer(contract: Contract | None) -> Document:
    """Return the schema of an answer."""
    outputs = (contract.outputs if contract is not None else None) or []
    schema: Document = {}
    if json_schema.is_tensor(outputs):
        schema = json_schema.of_tensor(outputs[0]) if len(outputs) == 1 else {"type": "object"}
    elif outputs and all(one.get("name") for one in outputs):
        columns = {str(one["name"]): json_schema.of_entry(one) for one in outputs}
        schema = {"type": "array", "items": {"type": "object", "properties": columns}}
    return {"type": "object", "required": ["predictions"], "properties": {"predictions": schema}}


def example_request(contract: Contract | None) -> Any:  # noqa: ANN401 - a JSON value
    """Return a request that fits the signature, None where there is none."""
    inputs = (contract.inputs if contract is not None else None) or []
    if not inputs:
        return None
    if json_schema.is_tensor(inputs):
        if len(inputs) == 1 and not inputs[0].get("name"):
            return {"inputs": json_schema.example_of(inputs[0])}
        return {"inputs": {str(one["name"]): json_schema.example_of(one) for one in inputs}}
    if not all(one.get("name") for one in inputs):
        return {"dataframe_split": {"data": [[json_schema.example_of(one) for one in inputs]]}}
    return {
        "dataframe_split": {
            "columns": [str(one["name"]) for one in inputs],
            "data": [[json_schema.example_of(one) for one in inputs]],
        }
    }


def _column_forms(inputs: list[Document]) -> Document:
    named = [one for one in inputs if one.get("name")]
    row: Document = {"type": "object"}
    if named:
        row["properties"] = {str(one["name"]): json_schema.of_entry(one) for one in named}
        row["required"] = [str(one["name"]) for one in named if json_schema.is_required(one)]
    cells: Document = {"type": "array"}
    if inputs:
        cells["prefixItems"] = [json_schema.of_entry(one) for one in inputs]
    split = {
        "type": "object",
        "required": ["data"],
        "properties": {
            "columns": {"type": "array", "items": {"type": ["string", "integer"]}},
            "index": {"type": "array"},
            "data": {"type": "array", "items": cells},
        },
    }
    return {
        "dataframe_split": split,
        "dataframe_records": {"type": "array", "items": row},
        "instances": {},
        "inputs": {},
    }


def _tensor_forms(inputs: list[Document]) -> Document:
    if len(inputs) == 1 and not inputs[0].get("name"):
        schema = json_schema.of_tensor(inputs[0])
    else:
        properties = {str(one["name"]): json_schema.of_tensor(one) for one in inputs}
        schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"inputs": schema, "instances": {"type": "array"}}


def _params(params: list[Document]) -> Document:
    return {"type": "object", "properties": {str(one["name"]): json_schema.of_param(one) for one in params}}


def _invocations(example: Any) -> Document:  # noqa: ANN401 - a JSON value
    media: Document = {"schema": {"$ref": "#/components/schemas/Request"}}
    if example is not None:
        media["example"] = example
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "operationId": "predict",
        "summary": "Predict",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": media,
                "text/csv": {"schema": {"type": "string"}},
                "application/vnd.apache.parquet": {},
            },
        },
        "responses": {
            "200": {
                "description": "The predictions, in the order of the rows.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}},
            },
            "400": {"description": "What is sent does not fit the model.", "content": error},
            "413": {"description": "The body is too large.", "content": error},
            "415": {"description": "The content type is not read.", "content": text},
            "500": {"description": "The model failed.", "content": error},
            "503": {"description": "No worker is free or ready; try again shortly.", "content": error},
            "504": {"description": "The prediction took too long.", "content": text},
        },
    }


def _probe(summary: str, *, always: bool = False) -> Document:
    responses: Document = {"200": {"description": "Yes."}}
    if not always:
        responses["503"] = {"description": "Not now."}
    return {"summary": summary, "responses": responses}


def _text(summary: str) -> Document:
    return {"summary": summary, "responses": {"200": {"description": summary}, "503": {"description": "Not yet."}}}
