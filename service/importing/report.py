"""What was made of foreign files, in words: what the model can do, what not, and why."""

from collections.abc import Iterator
from shlex import quote

from service.importing.packing import Imported
from service.importing.wishes import Wishes
from service.inference import operations
from service.inference.foreign import Facts
from service.specs import TensorSpec, shape_text

_PICTURE_CHANNELS = {1: "L", 3: "RGB"}


def report(found: Imported, wishes: Wishes) -> str:
    """Describe the package for whoever imports it."""
    title = f"{found.description.name}/{found.description.version}"
    state = "would be written (dry run)" if found.location is None else "written"
    lines = [f"{title}  {state}"]
    lines += [f"  {key:<9} {text}" for key, text in _facts(found, wishes)]
    if found.location is not None:
        lines += ["", "next:", *(f"  {command}" for command in _commands(found, wishes))]
    return "\n".join(lines)


def _facts(found: Imported, wishes: Wishes) -> Iterator[tuple[str, str]]:
    for graph in found.plan.graphs.values():
        yield "from", _source(graph.facts)
    yield from _tensors(found)
    yield "can", ", ".join(found.operations)
    yield from (("cannot", f"{operation}: {reason}") for operation, reason in _cannot(found))
    yield "batch", _batch(found)
    yield from (("batch", remark) for remark in found.remarks)
    yield "batch", _invariance(found)
    yield from _parity(found)
    yield from (("changed", note) for note in found.plan.notes)
    yield from (("hint", hint) for hint in _hints(found, wishes))


def _tensors(found: Imported) -> Iterator[tuple[str, str]]:
    plan, description = found.plan, found.description
    yield "input", _tensor(description.input)
    if description.code is not None:
        where = f" '{plan.code_tensor}'" if plan.code_tensor else ""
        yield "code", f"{_tensor(description.code)}{where}: {plan.why['code']}"
    if description.output is not None:
        yield "output", f"{_tensor(description.output)}, {description.output_kind}"
    for name, layer in description.layers.items():
        yield "layer", f"{name}: {_tensor(layer.spec)} '{layer.tensor}' of the {layer.file}"


def _source(facts: Facts) -> str:
    opsets = ", ".join(f"{domain} {version}" for domain, version in facts.opsets.items())
    producer = facts.producer or "an unknown producer"
    return f"{facts.file}: {facts.bytes:,} bytes, {producer}, opset {opsets}, IR {facts.ir_version}"


def _tensor(spec: TensorSpec) -> str:
    limits = f", {spec.range[0]:g} to {spec.range[1]:g}" if spec.range else ""
    picture = f", {spec.image.mode} picture {spec.image.layout}" if spec.image else ""
    scale = ", errors by a scale of each feature" if spec.scale else ""
    return f"{spec.dtype} {shape_text(spec.shape)}{limits}{picture}{scale}"


def _cannot(found: Imported) -> Iterator[tuple[str, str]]:
    plan, description = found.plan, found.description
    can = set(found.operations)
    no_code = "it has no code"
    if operations.ENCODE not in can:
        yield operations.ENCODE, no_code
    if operations.DECODE not in can:
        if description.output is None:
            yield operations.DECODE, "there is no decoder"
        else:
            yield operations.DECODE, plan.needs_input or no_code
    if operations.RECONSTRUCT not in can:
        yield operations.RECONSTRUCT, "there is no decoder"
    if operations.ANOMALY_SCORE not in can:
        other = f"the output is no reconstruction but {description.output_kind}"
        reason = "there is no reconstruction" if description.output is None else other
        yield operations.ANOMALY_SCORE, reason


def _batch(found: Imported) -> str:
    batch = found.plan.batch
    if batch.batch == "free":
        return "the number of rows is free"
    if batch.batch == "freed":
        return f"was fixed at {batch.rows} and is free now, with the same answers"
    if batch.rows == 1:
        return "is fixed at one row and could not be freed: served one row at a time"
    return (
        f"is fixed at {batch.rows} rows and could not be freed: every run is filled up to"
        f" {batch.rows}"
    )


def _invariance(found: Imported) -> str:
    measured = found.invariance
    if found.description.max_batch_rows == 1:
        return "a row is always alone, so nothing can change its answers"
    if measured.largest_batch == 1:
        return "a run is so slow that its answers were not looked for in larger batches"
    if measured.invariant:
        return f"answers have the same bits in every batch up to {measured.largest_batch} rows"
    reasons = sorted({reason for each in measured.depends_on.values() for reason in each})
    return (
        f"the last bits of answers depend on {' and '.join(reasons)} (tried up to"
        f" {measured.largest_batch} rows)"
    )


def _parity(found: Imported) -> Iterator[tuple[str, str]]:
    if found.description.origin is not None:
        parity = found.description.origin.parity
        yield (
            "parity",
            f"largest difference to the files as they came {parity.max_difference:.1e}"
            f" (of 1 + |value|), {parity.rows} rows",
        )


def _hints(found: Imported, wishes: Wishes) -> Iterator[str]:
    spec = found.description.input
    mode = next((m for c, m in _PICTURE_CHANNELS.items() if _is_picture(spec, c)), None)
    if mode is not None:
        yield f"rows look like pictures: --image {mode} --range 0,1 takes and gives them as such"
    if spec.range is None and spec.scale is None:
        yield "without --range any finite value is taken, and errors are not divided by a width"
    if wishes.rows is None:
        yield "tried with random rows; --rows FILE.npy takes real ones"
    if not wishes.licence:
        yield "the card has no licence yet: --licence"


def _is_picture(spec: TensorSpec, channels: int) -> bool:
    axes = 3
    return (
        spec.image is None
        and len(spec.shape) == axes
        and channels
        in (
            spec.shape[0],
            spec.shape[-1],
        )
    )


def _commands(found: Imported, wishes: Wishes) -> Iterator[str]:
    models = f" --models {quote(str(wishes.models))}"
    name = f"{found.description.name}/{found.description.version}"
    if operations.ANOMALY_SCORE in found.operations:
        yield f"hourglass calibrate {name} --data NORMAL_ROWS.npy{models}"
    yield f"hourglass check{models}"
    yield f"hourglass serve{models}"
