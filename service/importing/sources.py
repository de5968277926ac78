"""Which file is what, and which of its outputs counts; what cannot be seen is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from service.errors import ConfigurationError, PackageError, QuestionError
from service.importing.wishes import Wishes
from service.inference.dataflow import makers
from service.inference.foreign import (
    Foreign,
    Value,
    keep_outputs,
    random_operators,
    read_foreign,
)


@dataclass(frozen=True, slots=True)
class Sources:
    """The graphs that were brought: an encoder, perhaps with a decoder, or a whole."""

    encoder: Foreign | None = None
    decoder: Foreign | None = None
    whole: Foreign | None = None

    @property
    def first(self) -> Foreign:
        """The graph that takes the rows."""
        found = self.encoder or self.whole
        if found is None:
            raise ConfigurationError("a decoder alone has nothing to encode with: add --encoder")
        return found

    @property
    def all(self) -> list[Foreign]:
        return [each for each in (self.encoder, self.decoder, self.whole) if each is not None]


def read_sources(wishes: Wishes) -> Sources:
    """Read the files and tell encoder, decoder and autoencoder apart.

    Raises:
        QuestionError: That cannot be told from their shapes.
        PackageError: A file is damaged, or not one that can be served.
    """
    named = [path for path in (wishes.encoder, wishes.decoder) if path is not None]
    if wishes.files and named:
        raise ConfigurationError("give files by themselves, or with --encoder and --decoder")
    if named:
        return Sources(_read(wishes.encoder), _read(wishes.decoder))
    if not 1 <= len(wishes.files) <= 2:  # noqa: PLR2004 - an encoder and a decoder
        raise ConfigurationError(
            f"{len(wishes.files)} files; a model comes as one, or as an encoder and a decoder"
        )
    read = [each for path in wishes.files if (each := _read(path)) is not None]
    return Sources(whole=read[0]) if len(read) == 1 else _pair(read)


def _read(path: Path | None) -> Foreign | None:
    if path is None:
        return None
    foreign = read_foreign(path)
    if not foreign.outputs:
        raise PackageError(f"{path.name} has no outputs")
    return foreign


def _pair(read: Sequence[Foreign]) -> Sources:
    """Take for the encoder what gives less than it takes, for the decoder what gives more."""
    found = {_direction(each): each for each in read}
    if set(found) == {"narrowing", "widening"}:
        return Sources(encoder=found["narrowing"], decoder=found["widening"])
    lines = "".join(f"\n  {each.facts.file}: {_ends(each)}" for each in read)
    raise QuestionError(
        "which file is the encoder cannot be told from their shapes; say it with --encoder FILE"
        f" --decoder FILE:{lines}"
    )


def _ends(foreign: Foreign) -> str:
    given = "; ".join(str(value) for value in foreign.inputs)
    return f"{given} -> {'; '.join(str(value) for value in foreign.outputs)}"


def _direction(foreign: Foreign) -> str:
    takes = [_row_values(value) for value in foreign.inputs]
    gives = [_row_values(value) for value in foreign.outputs]
    if None in (*takes, *gives):
        return "unknown"
    least, most = sum(each or 0 for each in takes), [each or 0 for each in gives]
    if max(most) < least:
        return "narrowing"
    return "widening" if min(most) > least else "unknown"


def _row_values(value: Value) -> int | None:
    axes = value.axes[1:] if value.axes else (None,)
    known = [axis for axis in axes if isinstance(axis, int)]
    return prod(known) if len(known) == len(axes) else None


def with_output(foreign: Foreign, name: str) -> Foreign:
    """Keep one output and see that what it needs can be served.

    Raises:
        PackageError: It needs random numbers, or more than one input.
    """
    kept = keep_outputs(foreign, [name])
    drawn = random_operators(kept)
    if drawn:
        raise PackageError(
            f"{foreign.facts.file} draws random numbers ({', '.join(drawn)}) on the way to"
            f" {name}, so no answer could be had twice. Export it in evaluation mode"
            " (model.eval()); of a variational autoencoder, export the mean instead of a sample"
        )
    if len(kept.inputs) != 1:
        inputs = "".join(f"\n  {value}" for value in kept.inputs)
        raise PackageError(
            f"{foreign.facts.file} needs {len(kept.inputs)} inputs for {name}, and a model takes"
            f" rows at one:{inputs}"
        )
    return kept


def choose_output(foreign: Foreign, wanted: str | None, option: str, what: str) -> Foreign:
    """Keep the output that was named, which may be an inner tensor, or the only one.

    Raises:
        QuestionError: There are several.
        ConfigurationError: There is none of that name.
    """
    names = [value.name for value in foreign.outputs]
    if wanted is not None and wanted not in {*names, *makers(foreign.model.graph)}:
        raise ConfigurationError(
            f"{foreign.facts.file} has no output {wanted}; it has:{listed(foreign.outputs)}"
        )
    if wanted is None and len(names) > 1:
        raise QuestionError(
            f"{foreign.facts.file} has {len(names)} outputs; say with {option} NAME which is"
            f" {what}:{listed(foreign.outputs)}"
        )
    return with_output(foreign, wanted or names[0])


def listed(values: Sequence[Value]) -> str:
    """List inputs or outputs, one a line, with dtype and shape."""
    return "".join(f"\n  {value}" for value in values)


def with_reconstruction(foreign: Foreign, row: tuple[int | None, ...], wishes: Wishes) -> Foreign:
    """Keep the output that has the shape of the input, where it was not named.

    Raises:
        QuestionError: None has, or several have.
    """
    if wishes.output is not None or len(foreign.outputs) == 1:
        return choose_output(foreign, wishes.output, "--output", "the reconstruction")
    alike = [value.name for value in foreign.outputs if _row(value) == row]
    if len(alike) != 1:
        raise QuestionError(
            f"{foreign.facts.file} has {len(foreign.outputs)} outputs, {len(alike)} of them of the"
            " shape of the input; say with --output NAME which is the reconstruction, or, if it is"
            f" an encoder, --encoder FILE --code-output NAME:{listed(foreign.outputs)}"
        )
    return with_output(foreign, alike[0])


def _row(value: Value) -> tuple[int | None, ...] | None:
    if not value.axes:
        return None
    return tuple(axis if isinstance(axis, int) else None for axis in value.axes[1:])
