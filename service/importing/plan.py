"""From files to graphs that can be packed: trial, batch axis, code, decoder, scaling, layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from service.errors import ConfigurationError, PackageError, QuestionError
from service.importing.codes import choose_code, with_decoder
from service.importing.sources import (
    Sources,
    choose_output,
    read_sources,
    with_reconstruction,
)
from service.importing.trial import Trial, try_out, try_with
from service.importing.wishes import Wishes, input_spec, make_scaling, row_shape
from service.inference.dataflow import makers
from service.inference.foreign import Axes, Foreign, declare, first_half, refusing_damage
from service.inference.freeing import Settled
from service.inference.scaling import Scaling
from service.repository.manifest import InnerTensor
from service.specs import Rows, TensorSpec, shape_text

Part: TypeAlias = Literal["encoder", "decoder", "autoencoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be packed, and why it is so.

    Attributes:
        graphs: What goes into the files.
        trials: The graphs as they came, and what they ran with.
        batch: Of the graph whose batch axis is the least free.
        rows: Some rows as a client sends them.
        why: Reasons by what they are for, for people.
        needs_input: Why there is no decoder, though there is a code and an output.
    """

    graphs: Mapping[Part, Foreign]
    trials: Mapping[Part, Trial]
    input: TensorSpec
    code: TensorSpec | None = None
    code_tensor: str | None = None
    output: TensorSpec | None = None
    layers: Mapping[str, InnerTensor] = field(default_factory=dict)
    scaling: Scaling | None = None
    batch: Settled
    rows: Rows
    why: Mapping[str, str] = field(default_factory=dict)
    needs_input: str | None = None

    @property
    def notes(self) -> list[str]:
        """What was changed in the graphs."""
        many = len(self.graphs) > 1
        return [
            f"{part}: {note}" if many else note
            for part, graph in self.graphs.items()
            for note in graph.notes
        ]


def make_plan(wishes: Wishes) -> Plan:
    """Read the files and find out all that a package needs.

    Raises:
        QuestionError: Something must be said.
        ConfigurationError: What was said does not fit the files.
        PackageError: A file cannot be used.
    """
    sources = read_sources(wishes)
    with refusing_damage(sources.first.facts.file):
        if not sources.first.inputs:
            raise PackageError(f"{sources.first.facts.file} has no input")
        plan = _plan_whole if sources.whole is not None else _plan_pair
        return plan(sources, wishes)


def _plan_whole(sources: Sources, wishes: Wishes) -> Plan:
    whole = sources.first
    row = row_shape(whole.inputs[0], wishes)
    whole = with_reconstruction(whole, row, wishes)
    spec = input_spec(whole.inputs[0], wishes)
    scaling = make_scaling(spec, wishes)
    trial, rows = try_out(whole, spec, wishes, scaling)
    output = _output_spec(trial, spec, wishes)
    code, why = choose_code(trial, wishes)
    specs = {} if code is None else {code: trial.spec(code)}
    foreign, needs_input = trial.foreign, None
    if code is not None:
        foreign, needs_input = with_decoder(trial, code, spec.shape)
    layers = _layers(wishes, {"autoencoder": trial})
    if scaling is not None:
        foreign = scaling.in_front_of(foreign)
        foreign = scaling.behind(foreign) if wishes.reconstructs else foreign
    specs |= {layer.tensor: layer.spec for layer in layers.values()}
    return Plan(
        graphs={"autoencoder": declare(foreign, specs | _ends(whole, spec, output))},
        trials={"autoencoder": trial},
        input=spec,
        code=specs.get(code or ""),
        code_tensor=code,
        output=output,
        layers=layers,
        scaling=scaling,
        batch=trial.settled,
        rows=rows,
        why={"code": why},
        needs_input=needs_input,
    )


def _plan_pair(sources: Sources, wishes: Wishes) -> Plan:
    _refuse_pointless(wishes)
    encoder = choose_output(sources.first, wishes.code_output, "--code-output", "the code")
    encoder = _with_mean_alone(encoder, sources.decoder)
    spec = input_spec(encoder.inputs[0], wishes)
    scaling = make_scaling(spec, wishes)
    first, rows = try_out(encoder, spec, wishes, scaling)
    code = first.spec(encoder.outputs[0].name)
    trials: dict[Part, Trial] = {"encoder": first}
    specs: dict[Part, dict[str, TensorSpec]] = {"encoder": _ends(encoder, spec, code)}
    output = None
    if sources.decoder is not None:
        second = _try_decoder(sources.decoder, first, spec, wishes)
        output = _output_spec(second, spec, wishes)
        trials["decoder"] = second
        specs["decoder"] = _ends(second.foreign, code, output)
    layers = _layers(wishes, trials)
    for layer in layers.values():
        specs[layer.file].setdefault(layer.tensor, layer.spec)
    graphs = {part: trial.foreign for part, trial in trials.items()}
    if scaling is not None:
        graphs["encoder"] = scaling.in_front_of(graphs["encoder"])
        if "decoder" in graphs and wishes.reconstructs:
            graphs["decoder"] = scaling.behind(graphs["decoder"])
    return Plan(
        graphs={part: declare(graph, specs[part]) for part, graph in graphs.items()},
        trials=trials,
        input=spec,
        code=code,
        output=output,
        layers=layers,
        scaling=scaling,
        batch=_least_free([trial.settled for trial in trials.values()]),
        rows=rows,
        why={"code": "the output of the encoder"},
    )


def _ends(foreign: Foreign, given: TensorSpec, gives: TensorSpec) -> dict[str, TensorSpec]:
    return {foreign.inputs[0].name: given, foreign.outputs[0].name: gives}


def _refuse_pointless(wishes: Wishes) -> None:
    if wishes.code is not None or wishes.has_no_code:
        raise ConfigurationError(
            "--code and --no-code are for one file that holds encoder and decoder"
        )


def _with_mean_alone(encoder: Foreign, decoder: Foreign | None) -> Foreign:
    """Take the first half where an encoder gives exactly twice what the decoder takes."""
    gives = encoder.outputs[0].axes or ()
    takes = decoder.inputs[0].axes or () if decoder is not None and decoder.inputs else ()
    if len(gives) != len(takes) or len(gives) < 2:  # noqa: PLR2004 - batch and channels
        return encoder
    given, taken = gives[1], takes[1]
    if isinstance(given, int) and isinstance(taken, int) and given == 2 * taken:
        return first_half(encoder, taken)
    return encoder


def _try_decoder(decoder: Foreign, first: Trial, spec: TensorSpec, wishes: Wishes) -> Trial:
    """Run the decoder with the codes that the encoder gives."""
    if not decoder.inputs:
        raise PackageError(f"{decoder.facts.file} has no input")
    kept = with_reconstruction(decoder, spec.shape, wishes)
    takes, gives = kept.inputs[0], first.foreign.outputs[0].name
    codes = first.all(gives)
    if takes.dtype != str(codes.dtype) or not _is_taken(takes.axes, codes.shape[1:]):
        raise ConfigurationError(
            f"the encoder gives rows of {codes.dtype} {list(codes.shape[1:])}, and the decoder"
            f" takes {takes}"
        )
    others = [] if first.others is None else [first.see([gives], first.others)[gives]]
    return try_with(kept, [codes, *others])


def _is_taken(axes: Axes | None, row: tuple[int, ...]) -> bool:
    if axes is None:
        return True
    pairs = zip(axes[1:], row, strict=False)
    return len(axes) - 1 == len(row) and all(
        wanted == length for wanted, length in pairs if isinstance(wanted, int)
    )


def _output_spec(trial: Trial, spec: TensorSpec, wishes: Wishes) -> TensorSpec:
    """Describe the output; a reconstruction has the range and the picture of the input.

    Raises:
        QuestionError: It is no reconstruction, and nobody said what else it is.
    """
    value = trial.foreign.outputs[0]
    seen = trial.spec(value.name)
    if not wishes.reconstructs:
        return seen
    if seen.shape != spec.shape:
        raise QuestionError(
            f"the output {value.name} of {trial.foreign.facts.file} is {shape_text(seen.shape)}"
            f" and the input {shape_text(spec.shape)}, so it is no reconstruction. If it is the"
            " code, import the file with --encoder FILE; if it is something else that is made of"
            " the input, name it with --output-kind NAME"
        )
    if seen.dtype != spec.dtype:
        return seen
    return replace(spec, features=None, scale=None)


def _layers(wishes: Wishes, trials: Mapping[Part, Trial]) -> dict[str, InnerTensor]:
    return {name: _layer(tensor, trials) for name, tensor in wishes.layers.items()}


def _layer(tensor: str, trials: Mapping[Part, Trial]) -> InnerTensor:
    for part, trial in trials.items():
        if tensor in makers(trial.foreign.model.graph):
            spec = trial.spec(tensor)
            return InnerTensor(file=part, tensor=tensor, dtype=spec.dtype, shape=spec.shape)
    raise ConfigurationError(f"there is no tensor {tensor}, which was to be a layer")


def _least_free(settled: Sequence[Settled]) -> Settled:
    """Choose the graph that says how all are run.

    Raises:
        PackageError: They want different numbers of rows.
    """
    fixed = [each for each in settled if each.batch == "fixed"]
    if len({each.rows for each in fixed}) > 1:
        sizes = " and ".join(str(each.rows) for each in fixed)
        raise PackageError(f"encoder and decoder are fixed to batches of {sizes} rows; export anew")
    freed = [each for each in settled if each.batch == "freed"]
    return (fixed or freed or [*settled])[0]
