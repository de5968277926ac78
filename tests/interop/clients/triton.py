"""Triton's Python client: the same checks through its two faces, and what only one of them has."""

import asyncio
import inspect
import itertools
import urllib.request
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import numpy as np
import tritonclient.http as sync
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

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

# a method of either client, by its name
Ask = Callable[..., Awaitable[Any]]

OUTPUTS = ("code", "reconstruction", "score")
SUBSETS = [subset for n in (1, 2, 3) for subset in itertools.combinations(OUTPUTS, n)]
FORMATS = {"JSON": False, "binary": True}
COMPRESSIONS = (None, "gzip", "deflate")
MANY = 32


def check_client(checks: Checks, task: Task) -> None:
    """Check one of the faces: ``sync`` or ``asyncio``."""
    if task.variant == "sync":
        with sync.InferenceServerClient(task.address, concurrency=8) as client:
            asyncio.run(_check_all(checks, task, _ask(client)))
            _check_async_infer(checks, task, client)
    else:
        asyncio.run(_check_asyncio(checks, task))


async def _check_asyncio(checks: Checks, task: Task) -> None:
    async with aio.InferenceServerClient(task.address) as client:
        await _check_all(checks, task, _ask(client))
        await _check_gather(checks, task, client)


def _ask(client: Any) -> Ask:
    async def ask(method: str, *arguments: Any, **options: Any) -> Any:
        answer = getattr(client, method)(*arguments, **options)
        return await answer if inspect.isawaitable(answer) else answer

    return ask


async def _check_all(checks: Checks, task: Task, ask: Ask) -> None:
    await _check_health(checks, ask)
    await _check_metadata(checks, ask)
    await _check_bodies(checks, task, ask)
    await _check_decoder(checks, task, ask)
    await _check_compression(checks, task, ask)
    await _check_answer(checks, task, ask)
    await _check_statistics(checks, task, ask)
    await _check_errors(checks, task, ask)
    await _check_repository(checks, ask)
    _check_raw_request(checks, task)


def _input(rows: np.ndarray, *, binary: bool = True, name: str = "input") -> sync.InferInput:
    tensor = sync.InferInput(name, list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return tensor


def _outputs(names: Iterable[str], *, binary: bool = True) -> list[sync.InferRequestedOutput]:
    return [sync.InferRequestedOutput(name, binary_data=binary) for name in names]


def _compare(result: Any, task: Task, names: Iterable[str]) -> None:
    """Compare the outputs of an answer, their order too, with ONNX Runtime's."""
    names = tuple(names)
    equal(tuple(o["name"] for o in result.get_response()["outputs"]), names, "the outputs")
    for name in names:
        same_bits(result.as_numpy(name), task.wanted[name], name)


async def _check_health(checks: Checks, ask: Ask) -> None:
    with checks.check("the server is live and ready"):
        must(await ask("is_server_live"), "not live")
        must(await ask("is_server_ready"), "not ready")
    with checks.check("models are ready, with a version and without, and an unknown one is not"):
        for name in (MODEL, DECODER):
            must(await ask("is_model_ready", name), f"{name} is not ready")
            must(await ask("is_model_ready", name, "1"), f"version 1 of {name} is not ready")
        must(not await ask("is_model_ready", "nobody"), "nobody is ready")
        must(not await ask("is_model_ready", MODEL, "99"), "version 99 is ready")


async def _check_metadata(checks: Checks, ask: Ask) -> None:
    with checks.check("the metadata of the server name it and its extensions"):
        server = await ask("get_server_metadata")
        equal(set(server), {"name", "version", "extensions"}, "the metadata")
        wanted = {"binary_tensor_data", "model_configuration", "model_repository", "statistics"}
        must(wanted <= set(server["extensions"]), server["extensions"])
    for name, inputs, outputs in (
        (MODEL, {"input": [-1, 1, 28, 28]}, {"code": [-1, 32], **_IMAGES, "score": [-1]}),
        (DECODER, {"code": [-1, 32]}, _IMAGES),
    ):
        with checks.check(f"the metadata of {name} list its tensors"):
            for version in ("", "1"):
                model = await ask("get_model_metadata", name, version)
                equal((model["name"], model["versions"]), (name, ["1"]))
                equal(_tensors(model["inputs"]), inputs, "inputs")
                equal(_tensors(model["outputs"]), outputs, "outputs")
        with checks.check(f"the configuration of {name} lists them without the batch"):
            config = await ask("get_model_config", name)
            must(config["max_batch_size"] > 0, "there is no max_batch_size")
            equal(_dims(config["input"]), {n: s[1:] for n, s in inputs.items()}, "input")
            equal(_dims(config["output"]).keys(), outputs.keys(), "output")


_IMAGES = {"reconstruction": [-1, 1, 28, 28]}


def _tensors(tensors: list[dict[str, Any]]) -> dict[str, list[int]]:
    equal({tensor["datatype"] for tensor in tensors}, {"FP32"}, "datatypes")
    return {tensor["name"]: tensor["shape"] for tensor in tensors}


def _dims(tensors: list[dict[str, Any]]) -> dict[str, list[int]]:
    equal({tensor["data_type"] for tensor in tensors}, {"TYPE_FP32"}, "data types")
    return {tensor["name"]: tensor["dims"] for tensor in tensors}


async def _check_bodies(checks: Checks, task: Task, ask: Ask) -> None:
    rows = task.wanted["rows"]
    for sent, is_sent_binary in FORMATS.items():
        for got, is_got_binary in FORMATS.items():
            with checks.check(f"{sent} to {got}: every subset of the outputs, bit for bit"):
                for names in SUBSETS:
                    result = await ask(
                        "infer",
                        MODEL,
                        [_input(rows, binary=is_sent_binary)],
                        outputs=_outputs(names, binary=is_got_binary),
                    )
                    _compare(result, task, names)
        with checks.check(f"{sent} and no word of outputs: all of them"):
            result = await ask("infer", MODEL, [_input(rows, binary=is_sent_binary)])
            _compare(result, task, OUTPUTS)
    with checks.check("one output as JSON and two as binary, in the order that was asked for"):
        outputs = [*_outputs(["score"]), *_outputs(["code"], binary=False)]
        outputs += _outputs(["reconstruction"])
        result = await ask("infer", MODEL, [_input(rows)], outputs=outputs)
        _compare(result, task, ("score", "code", "reconstruction"))
    with checks.check("1,000 rows, more than a batch"):
        result = await ask("infer", MODEL, [_input(np.tile(rows, (200, 1, 1, 1)))])
        same_bits(result.as_numpy("score"), np.tile(task.wanted["score"], 200))
        same_bits(result.as_numpy("code"), np.tile(task.wanted["code"], (200, 1)))


async def _check_decoder(checks: Checks, task: Task, ask: Ask) -> None:
    for format_, binary in FORMATS.items():
        with checks.check(f"the decoder alone, {format_}"):
            result = await ask(
                "infer",
                DECODER,
                [_input(task.wanted["code"], binary=binary, name="code")],
                outputs=_outputs(["reconstruction"], binary=binary),
            )
            _compare(result, task, ("reconstruction",))


async def _check_compression(checks: Checks, task: Task, ask: Ask) -> None:
    for request, answer in itertools.product(COMPRESSIONS, COMPRESSIONS):
        with checks.check(f"request {request or 'plain'}, answer {answer or 'plain'}"):
            for binary in FORMATS.values():
                result = await ask(
                    "infer",
                    MODEL,
                    [_input(task.wanted["rows"], binary=binary)],
                    outputs=_outputs(OUTPUTS, binary=binary),
                    request_compression_algorithm=request,
                    response_compression_algorithm=answer,
                )
                _compare(result, task, OUTPUTS)
    with checks.check("an error that is asked for in gzip can be read"):
        await _fails(
            ask,
            404,
            "nobody",
            [_input(task.wanted["rows"])],
            response_compression_algorithm="gzip",
        )


async def _check_answer(checks: Checks, task: Task, ask: Ask) -> None:
    inputs = [_input(task.wanted["rows"])]
    with checks.check("the answer has the id of its request, the model and the version"):
        for version in ("", "1"):
            result = await ask("infer", MODEL, inputs, version, request_id="a request of ours")
            answer = result.get_response()
            equal(answer["id"], "a request of ours", "the id")
            equal((answer["model_name"], answer["model_version"]), (MODEL, "1"))
    with checks.check("a binary score carries its threshold and metric, a JSON one has them above"):
        result = await ask("infer", MODEL, inputs, outputs=_outputs(["score"]))
        _check_verdict(result.get_output("score")["parameters"], task)
        result = await ask("infer", MODEL, inputs, outputs=_outputs(["score"], binary=False))
        _check_verdict(result.get_response()["parameters"], task)
        # what the C++ client takes for bytes
        must("parameters" not in result.get_output("score"), "a JSON output has parameters")
    with checks.check("priority, timeout and parameters of one's own do no harm"):
        result = await ask(
            "infer", MODEL, inputs, priority=1, timeout=5_000_000, parameters={"ours": "yes"}
        )
        _compare(result, task, OUTPUTS)


def _check_verdict(parameters: dict[str, Any], task: Task) -> None:
    equal(np.float32(parameters["threshold"]), np.float32(task.wanted["threshold"]))
    equal(parameters["metric"], task.wanted["metric"])


async def _check_statistics(checks: Checks, task: Task, ask: Ask) -> None:
    rows = task.wanted["rows"]
    with checks.check("the statistics count requests, rows and runs"):
        before = await _statistics(ask, MODEL)
        for _ in range(3):
            await ask("infer", MODEL, [_input(rows)])
        after = await _statistics(ask, MODEL)
        equal(after["inference_count"] - before["inference_count"], 3 * len(rows), "rows")
        equal(after["execution_count"] - before["execution_count"], 3, "runs")
        for phase in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
            count, spent_ns = (
                after["inference_stats"][phase][what] - before["inference_stats"][phase][what]
                for what in ("count", "ns")
            )
            equal(count, 3, phase)
            must(0 <= spent_ns < 60e9, f"{phase} took {spent_ns} ns")
    with checks.check("the statistics of all models have each model once"):
        found = await ask("get_inference_statistics")
        names = [(model["name"], model["version"]) for model in found["model_stats"]]
        equal(sorted(names), [(MODEL, "1"), (DECODER, "1")], "the models")


async def _statistics(ask: Ask, name: str) -> dict[str, Any]:
    found = await ask("get_inference_statistics", name)
    (model,) = found["model_stats"]
    equal((model["name"], model["version"]), (name, "1"))
    return dict(model)


async def _check_errors(checks: Checks, task: Task, ask: Ask) -> None:
    rows = task.wanted["rows"]
    nan = np.full_like(rows, np.nan)
    cases: list[tuple[str, int, str, str, list[Any], dict[str, Any]]] = [
        ("an unknown model", 404, "model", "nobody", [_input(rows)], {}),
        ("an unknown version", 404, "version", MODEL, [_input(rows)], {"model_version": "99"}),
        ("an unknown output", 409, "score", MODEL, [_input(rows)], {"outputs": _outputs(["x"])}),
        ("an unknown input", 422, "input", MODEL, [_input(rows, name="pixels")], {}),
        ("rows of a wrong shape", 422, "28", MODEL, [_input(rows[:, :, :7])], {}),
        ("no row", 422, "row", MODEL, [_input(rows[:0])], {}),
        ("values that are not finite", 422, "finite", MODEL, [_input(nan)], {}),
        ("values out of the range", 422, "range", MODEL, [_input(rows * 255)], {}),
    ]
    for what, status, word, model, inputs, options in cases:
        with checks.check(f"{what} is an exception with status {status} that says so"):
            message = await _fails(ask, status, model, inputs, **options)
            must(word in message, f"the message does not name {word!r}: {message}")
    with checks.check("a body above the limit is an exception too, and no broken connection"):
        many = np.zeros((12_000, *rows.shape[1:]), np.float32)
        must("33554432" in await _fails(ask, 413, MODEL, [_input(many)]), "the limit is not named")
    with checks.check("a datatype that the model does not have is an exception"):
        doubles = sync.InferInput("input", list(rows.shape), "FP64")
        doubles.set_data_from_numpy(rows.astype(np.float64))
        must("FP32" in await _fails(ask, 422, MODEL, [doubles]), "FP32 is not named")
    with checks.check("unknown models have no metadata, configuration or statistics"):
        for method in ("get_model_metadata", "get_model_config", "get_inference_statistics"):
            await _raises(ask(method, "nobody"), 404)


async def _fails(ask: Ask, status: int, *arguments: Any, **options: Any) -> str:
    return await _raises(ask("infer", *arguments, **options), status)


async def _raises(asked: Awaitable[Any], status: int) -> str:
    """Wait for an exception of the client, and give its message."""
    try:
        await asked
    except InferenceServerException as error:
        message = str(error.message())
        equal(error.status(), str(status), f"({message}) the status")
        must("exception occurred in the client" not in message, message)
        return message
    raise NotSoError("there was no exception")


async def _check_repository(checks: Checks, ask: Ask) -> None:
    with checks.check("the index of the repository has both models, ready"):
        index = await ask("get_model_repository_index")
        found = sorted((model["name"], model["version"], model["state"]) for model in index)
        equal(found, [(MODEL, "1", "READY"), (DECODER, "1", "READY")], "the index")
    with checks.check("the repository cannot be changed, and an exception says so"):
        for method in ("load_model", "unload_model"):
            try:
                await ask(method, MODEL)
            except InferenceServerException as error:
                must(str(error.status()).startswith("4"), error)
                must("exception occurred" not in str(error.message()), error.message())
            else:
                raise NotSoError(f"{method} did something")
        must(await ask("is_model_ready", MODEL), "the model is gone")


def _check_raw_request(checks: Checks, task: Task) -> None:
    with checks.check("a raw binary request, read by the client"):
        body = task.wanted["rows"].tobytes()
        answer, content = _post(task, body, {"Inference-Header-Content-Length": "0"})
        length = answer["Inference-Header-Content-Length"]
        result = sync.InferenceServerClient.parse_response_body(
            content, header_length=length and int(length)
        )
        _compare(result, task, OUTPUTS)
    with checks.check("an answer in gzip really is"):
        body, length = sync.InferenceServerClient.generate_request_body(
            [_input(task.wanted["rows"])], outputs=_outputs(OUTPUTS, binary=False)
        )
        headers = {"Inference-Header-Content-Length": str(length), "Accept-Encoding": "gzip"}
        answer, content = _post(task, body, headers)
        equal(answer["Content-Encoding"], "gzip", "Content-Encoding")
        result = sync.InferenceServerClient.parse_response_body(content, content_encoding="gzip")
        _compare(result, task, OUTPUTS)


def _post(task: Task, body: bytes, headers: dict[str, str]) -> tuple[Any, bytes]:
    url = f"{task.url}/v2/models/{MODEL}/infer"
    headers = {"Content-Type": "application/octet-stream", **headers}
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request) as answer:
        return answer.headers, answer.read()


def _check_async_infer(checks: Checks, task: Task, client: Any) -> None:
    with checks.check(f"{MANY} calls of async_infer at a time"):
        inputs = [_input(task.wanted["rows"])]
        calls = [client.async_infer(MODEL, inputs, request_id=str(n)) for n in range(MANY)]
        for number, call in enumerate(calls):
            result = call.get_result(timeout=30)
            equal(result.get_response()["id"], str(number), "the id")
            _compare(result, task, OUTPUTS)
    with checks.check("an error of async_infer is an exception of its result"):
        call = client.async_infer("nobody", [_input(task.wanted["rows"])])
        try:
            call.get_result(timeout=30)
        except InferenceServerException as error:
            equal(error.status(), "404", "the status")
        else:
            raise NotSoError("there was no exception")


async def _check_gather(checks: Checks, task: Task, client: Any) -> None:
    with checks.check(f"{MANY} coroutines at a time"):
        inputs = [_input(task.wanted["rows"])]
        calls = [client.infer(MODEL, inputs, request_id=str(n)) for n in range(MANY)]
        for number, result in enumerate(await asyncio.gather(*calls)):
            equal(result.get_response()["id"], str(number), "the id")
            _compare(result, task, OUTPUTS)


if __name__ == "__main__":
    main(check_client)
