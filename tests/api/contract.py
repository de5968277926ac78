"""The OpenAPI document made exact for one model: with its name, shapes, ranges and body types.

The document describes every model at once, so it cannot say how long a row is. The model's card
can, and a client reads both.
"""

import copy
from math import prod
from typing import Any

from tests.api.wire import JSON

# an extension of an operation: what its rows must be
ROWS = "x-rows"

MAX_ROWS = 8


def specialised(document: dict[str, Any], card: dict[str, Any]) -> dict[str, Any]:
    """Rewrite *document* as if the server had no other model than that of *card*."""
    document = copy.deepcopy(document)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            parameters = operation.get("parameters", [])
            parameters[:] = [each for each in parameters if each["name"] != "layer"]
            for parameter in parameters:
                _settle(parameter, card)
            if "requestBody" in operation and path.startswith("/v1/"):
                tensor = card["code" if path.endswith("/decode") else "input"]
                operation[ROWS] = tensor
                body = _settle_body(operation["requestBody"]["content"], tensor, document)
                for name, schema in body["properties"].items():
                    _settle_option(name, schema, card)
            elif path.endswith("/infer"):
                operation[ROWS] = card["input"]
                content = operation["requestBody"]["content"]
                content[JSON] = {"schema": _inference(card["input"])}
    return document


def _settle(parameter: dict[str, Any], card: dict[str, Any]) -> None:
    known = {"model": [card["name"]], "version": [card["version"]]}
    if parameter["name"] in known:
        parameter["schema"] = {"enum": known[parameter["name"]]}
    elif parameter["in"] == "query" and card["calibration"]:
        _settle_option(parameter["name"], parameter["schema"], card)


def _settle_option(name: str, schema: dict[str, Any], card: dict[str, Any]) -> None:
    if name == "metric":
        schema["enum"] = [*card["calibration"]["metrics"], *([None] if "anyOf" in schema else [])]
    elif name == "false_positive_rate":
        del schema["exclusiveMinimum"]
        schema["minimum"] = 1 / (1 + card["calibration"]["rows"])


def _settle_body(
    content: dict[str, Any], tensor: dict[str, Any], document: dict[str, Any]
) -> dict[str, Any]:
    """Give the schema of the JSON body, with the rows of *tensor* in it."""
    for media in [*content]:
        if media not in tensor["body_types"]:
            del content[media]
    name = content[JSON]["schema"]["$ref"].rpartition("/")[2]
    body: dict[str, Any] = copy.deepcopy(document["components"]["schemas"][name])
    content[JSON] = {"schema": body}
    body["properties"].pop("layer", None)  # the models that are explored have none
    body["properties"]["inputs"] = _rows(tensor)
    return body


def _inference(tensor: dict[str, Any]) -> dict[str, Any]:
    """One row as the Open Inference Protocol has it: flat, with name, datatype and shape."""
    low, high = tensor["range"]
    size = prod(tensor["shape"])
    values = {
        "type": "array",
        "items": {"type": "number", "minimum": low, "maximum": high},
        "minItems": size,
        "maxItems": size,
    }
    fixed = {"name": "input", "datatype": "FP32", "shape": [1, *tensor["shape"]]}
    properties = {name: {"const": value} for name, value in fixed.items()} | {"data": values}
    item = {"type": "object", "required": [*properties], "properties": properties}
    inputs = {"type": "array", "items": item, "minItems": 1, "maxItems": 1}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {"id": {"type": "string"}, "inputs": inputs},
    }


def _rows(tensor: dict[str, Any]) -> dict[str, Any]:
    low, high = tensor["range"] or (-1e30, 1e30)
    schema: dict[str, Any] = {"type": "number", "minimum": low, "maximum": high}
    for length in reversed(tensor["shape"]):
        schema = {"type": "array", "items": schema, "minItems": length, "maxItems": length}
    return {"type": "array", "items": schema, "minItems": 1, "maxItems": MAX_ROWS}
