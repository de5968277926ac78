"""KServe's Python SDK: ``InferenceRESTClient``, version 2 of the protocol."""

import asyncio
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from tests.interop.checks import (
    DECODER,
    MODEL,
    Checks,
    NotSoError,
    Task,
    equal,
    main,
    must,
    same_bits,
)

OUTPUTS = ("code", "reconstruction", "score")


def check_client(checks: Checks, task: Task) -> None:
    """Check everything that the client has for this version."""
    asyncio.run(_check_all(checks, task))


async def _check_all(checks: Checks, task: Task) -> None:
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        await _check_health(checks, task, client)
        await _check_bodies(checks, task, client)
        await _check_parameters(checks, task, client)
        await _check_errors(checks, task, client)


async def _check_health(checks: Checks, task: Task, client: InferenceRESTClient) -> None:
    with checks.check("is_server_live and is_server_ready are True"):
        equal(await client.is_server_live(task.url), True)
        equal(await client.is_server_ready(task.url), True)
    with checks.check("is_model_ready is True for both models and False for an unknown one"):
        equal(await client.is_model_ready(task.url, MODEL), True)
        equal(await client.is_model_ready(task.url, DECODER), True)
        equal(await client.is_model_ready(task.url, "nobody"), False)


async def _check_bodies(checks: Checks, task: Task, client: InferenceRESTClient) -> None:
    rows = task.wanted["rows"]
    for sent in (False, True):
        for got in (False, True):
            with checks.check(f"infer, {_name(sent)} to {_name(got)}, bit for bit"):
                request = _request(rows, binary=sent)
                request.parameters = {"binary_data_output": got}
                _compare(await client.infer(task.url, request, MODEL), task, OUTPUTS)
    with checks.check("infer with a request that is a dictionary, nested and flat"):
        for data in (rows.tolist(), rows.ravel().tolist()):
            tensor = {"name": "input", "shape": [*rows.shape], "datatype": "FP32", "data": data}
            _compare(await client.infer(task.url, {"inputs": [tensor]}, MODEL), task, OUTPUTS)
    with checks.check("the decoder alone"):
        request = _request(task.wanted["code"], binary=True, model=DECODER, name="code")
        _compare(await client.infer(task.url, request, DECODER), task, ("reconstruction",))


def _name(binary: bool) -> str:
    return "binary" if binary else "JSON"


def _request(
    rows: np.ndarray, *, binary: bool, model: str = MODEL, name: str = "input"
) -> InferRequest:
    tensor = InferInput(name, list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return InferRequest(model, [tensor])


def _compare(answer: Any, task: Task, names: tuple[str, ...]) -> None:
    equal(tuple(output.name for output in answer.outputs), names, "the outputs")
    for output in answer.outputs:
        same_bits(output.as_numpy(), task.wanted[output.name], output.name)


async def _check_parameters(checks: Checks, task: Task, client: InferenceRESTClient) -> None:
    with checks.check("outputs that are named, each in its own format"):
        request = _request(task.wanted["rows"], binary=True)
        request.request_outputs = [
            RequestedOutput("score"),
            RequestedOutput("code", {"binary_data": True}),
            RequestedOutput("reconstruction", {"binary_data": False}),
        ]
        answer = await client.infer(task.url, request, MODEL)
        _compare(answer, task, ("score", "code", "reconstruction"))
    with checks.check("the answer and its score carry threshold and metric"):
        for parameters in (answer.parameters, answer.outputs[0].parameters):
            equal(np.float32(parameters["threshold"]), np.float32(task.wanted["threshold"]))
            equal(parameters["metric"], task.wanted["metric"])
    with checks.check("the answer has the id and the model"):
        request = _request(task.wanted["rows"], binary=False)
        request.id = "a request of ours"
        answer = await client.infer(task.url, request, MODEL)
        equal((answer.id, answer.model_name), ("a request of ours", MODEL))


async def _check_errors(checks: Checks, task: Task, client: InferenceRESTClient) -> None:
    rows = task.wanted["rows"]
    for what, status, word, model, request in (
        ("an unknown model", 404, "model", "nobody", _request(rows, binary=True)),
        ("a wrong shape", 422, "28", MODEL, _request(rows[:, :, :7], binary=True)),
        ("a wrong shape in JSON", 422, "28", MODEL, _request(rows[:, :, :7], binary=False)),
        ("values out of the range", 422, "range", MODEL, _request(rows * 255, binary=False)),
    ):
        with checks.check(f"{what} is an HTTPStatusError with status {status} that says so"):
            try:
                await client.infer(task.url, request, model)
            except httpx.HTTPStatusError as error:
                equal(error.response.status_code, status, "the status")
                must(word in str(error).split(" for url ")[0], error)
            else:
                raise NotSoError("there was no error")


if __name__ == "__main__":
    main(check_client)
