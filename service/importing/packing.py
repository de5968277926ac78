"""From a plan to a package: compare with the graphs as they came, measure, write."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from service.blueprint import make_graphs
from service.errors import ConfigurationError, PackageError
from service.importing.plan import Plan, make_plan
from service.importing.wishes import Wishes, trial_rows
from service.inference import operations
from service.inference.dataflow import makers
from service.inference.foreign import Facts
from service.inference.graphs import CODE, RECONSTRUCTION, Graphs
from service.inference.probing import largest_difference
from service.inference.scaling import Constant, Scaling
from service.packaging import (
    answers,
    golden_tolerance,
    make_package,
    measure_batch_invariance,
    write_package,
)
from service.repository.golden import GoldenRows
from service.repository.manifest import (
    BatchInvariance,
    Description,
    GraphFiles,
    Origin,
    OriginFile,
    Parity,
    Preprocessing,
)
from service.repository.packages import Location, Package
from service.specs import Rows

GOLDEN_ROWS: Final = 8
PARITY_ROWS: Final = 32

# seconds that the search for what answers depend on may take for each graph, about
BUDGET_S: Final = 10.0

# numbers of a mean that are written down one by one
_LISTED_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of it.

    Attributes:
        location: Where the package lies, ``None`` if it was only tried.
        remarks: What was decided about batches, and why.
    """

    plan: Plan
    description: Description
    invariance: BatchInvariance
    operations: tuple[str, ...]
    location: Location | None
    remarks: tuple[str, ...] = ()


def import_model(wishes: Wishes, *, is_dry: bool = False, budget_s: float = BUDGET_S) -> Imported:
    """Make a package of foreign files, and write it unless *is_dry*.

    Args:
        wishes: Which files, and what was said of them.
        is_dry: Only find out what would be written.
        budget_s: See *measure_batch_invariance*.

    Raises:
        QuestionError: Something must be said that cannot be found out.
        ConfigurationError: What was said does not fit.
        PackageError: A file cannot be used, or does not do in the package what it does alone.
    """
    version = _version(wishes)
    plan = make_plan(wishes)
    packing = _Packing(plan, wishes, version, budget_s)
    description, measured = packing.settle()
    location = None
    if not is_dry:
        location = write_package(
            wishes.models,
            description,
            packing.files,
            golden_rows=packing.rows[:GOLDEN_ROWS],
            measured=measured,
        )
    graphs = make_graphs(make_package(description, packing.files))
    found = _operations(graphs)
    return Imported(plan, description, measured, found, location, tuple(packing.remarks))


class _Packing:
    """A package in the making: how its batches must be is found out on the way."""

    def __init__(self, plan: Plan, wishes: Wishes, version: int, budget_s: float) -> None:
        self._plan = plan
        self._budget_s = budget_s
        self._reconstructs = wishes.reconstructs
        self.files = {
            f"{part}.onnx": graph.model.SerializeToString() for part, graph in plan.graphs.items()
        }
        self.remarks: list[str] = []
        self.rows = _parity_rows(plan, wishes)
        self._description = _describe(plan, wishes, version)

    def settle(self) -> tuple[Description, BatchInvariance]:
        """Give the description, with batches in which answers are right."""
        truth = _source_answers(self._plan, self.rows, undo=self._reconstructs)
        difference = self._difference(truth)
        if not difference <= self._tolerance and self._may_run_alone:
            self._run_alone("a row's answers are others in a batch than alone")
            difference = self._difference(truth)
        if not difference <= self._tolerance:
            raise PackageError(
                f"the packed graphs do not give the answers of the files that came: they differ by"
                f" {difference:.1e}, and {self._tolerance:.0e} would do"
            )
        measured = self._measured()
        if any("neighbours" in found for found in measured.depends_on.values()):
            if not self._may_run_alone:
                raise PackageError(
                    "a row's answers depend on the rows beside it, and the batch axis is fixed at"
                    f" {self._plan.batch.rows}: export it with a free batch axis, or with one row"
                )
            self._run_alone("a row's answers depend on the rows beside it")
            measured = self._measured()
            difference = self._difference(truth)
        if self._description.invariant and not measured.invariant:
            raise PackageError("answers depend on the place of a row in its batch; export anew")
        parity = Parity(max_difference=difference, rows=len(self.rows))
        origin = _origin(self._plan, parity)
        return self._description.model_copy(update={"origin": origin}), measured

    @property
    def _tolerance(self) -> float:
        return golden_tolerance(self._package.manifest)

    @property
    def _package(self) -> Package:
        return make_package(self._description, self.files)

    @property
    def _may_run_alone(self) -> bool:
        return self._description.max_batch_rows is None

    def _run_alone(self, reason: str) -> None:
        self._description = self._description.model_copy(update={"max_batch_rows": 1})
        self.remarks.append(f"{reason}, so it is served one row at a time (max_batch_rows 1)")

    def _difference(self, truth: Mapping[str, Rows]) -> float:
        given = answers(self._package, self.rows)
        return max(largest_difference(given[name], expected) for name, expected in truth.items())

    def _measured(self) -> BatchInvariance:
        rows = self.rows[:GOLDEN_ROWS]
        golden = GoldenRows(rows, answers(self._package, rows))
        return measure_batch_invariance(self._package, golden, budget_s=self._budget_s)


def _version(wishes: Wishes) -> int:
    """Choose the version after the highest that is there.

    Raises:
        ConfigurationError: The one that was asked for is there already.
    """
    folder = wishes.models / wishes.name
    numbers = [int(each.name) for each in folder.glob("*") if each.name.isdecimal()]
    if wishes.version is None:
        return max(numbers, default=0) + 1
    if wishes.version in numbers:
        raise ConfigurationError(
            f"{wishes.name}/{wishes.version} is there already; leave --version out to take"
            f" {max(numbers) + 1}"
        )
    return wishes.version


def _parity_rows(plan: Plan, wishes: Wishes) -> Rows:
    fixed = plan.batch.rows or 1
    count = -(-PARITY_ROWS // fixed) * fixed
    free = [n for n, axis in zip(plan.rows.shape[1:], plan.input.shape, strict=True) if not axis]
    return trial_rows(plan.input, wishes, count, free[0] if free else 1)


def _source_answers(plan: Plan, rows: Rows, *, undo: bool) -> dict[str, Rows]:
    """Run the graphs as they came, the encoder's codes through the decoder.

    Args:
        plan: Knows them.
        rows: As a client sends them.
        undo: Whether the output is scaled as the input is.
    """
    given = rows if plan.scaling is None else plan.scaling.scaled(rows)
    found: dict[str, Rows] = {}
    for part, trial in plan.trials.items():
        source = trial.source
        names = {source.outputs[0].name: CODE if part == "encoder" else RECONSTRUCTION}
        if plan.code_tensor in makers(source.original.graph):
            names[str(plan.code_tensor)] = CODE
        seen = trial.as_it_came(names, given)
        found |= {public: seen[name] for name, public in names.items()}
        given = found.get(CODE, given)
    if plan.scaling is not None and undo and RECONSTRUCTION in found:
        found[RECONSTRUCTION] = plan.scaling.restored(found[RECONSTRUCTION])
    return found


def _describe(plan: Plan, wishes: Wishes, version: int) -> Description:
    names = {part: f"{part}.onnx" for part in plan.graphs}
    fixed = plan.batch.rows if plan.batch.batch == "fixed" else None
    return Description(
        name=wishes.name,
        version=version,
        title=wishes.title,
        description=wishes.description,
        licence=wishes.licence,
        graphs=GraphFiles(**names, code_tensor=plan.code_tensor),
        input=plan.input,
        code=plan.code,
        output=plan.output,
        output_kind=wishes.output_kind,
        layers=dict(plan.layers),
        preprocessing=None if plan.scaling is None else _preprocessing(plan.scaling, wishes),
        max_batch_rows=fixed,
        invariant=fixed is not None and fixed > 1,
    )


def _preprocessing(scaling: Scaling, wishes: Wishes) -> Preprocessing:
    what = "(x - mean) / standard deviation in front of the encoder"
    back = ", and back behind the decoder" if wishes.reconstructs else ""
    return Preprocessing(
        description=f"{what}{back}, in the graph.",
        mean=_numbers(scaling.mean),
        standard_deviation=_numbers(scaling.standard_deviation),
    )


def _numbers(values: Constant) -> float | list[float] | None:
    """Write one number, or one for each feature or channel; a whole picture is in the graph."""
    if values.size == 1:
        return float(values.ravel()[0])
    is_a_line = max(values.shape) == values.size <= _LISTED_MAX
    return [float(each) for each in values.ravel()] if is_a_line else None


def _origin(plan: Plan, parity: Parity) -> Origin:
    facts = [graph.facts for graph in plan.graphs.values()]
    return Origin(
        files=[file for each in facts for file in _files(each)],
        changes=plan.notes,
        batch_axis=plan.batch.batch,
        parity=parity,
    )


def _files(facts: Facts) -> list[OriginFile]:
    graph = OriginFile(
        file=facts.file,
        sha256=facts.sha256,
        bytes=facts.bytes,
        producer=facts.producer,
        ir_version=facts.ir_version,
        opsets=dict(facts.opsets),
    )
    weights = [OriginFile(file=w.file, sha256=w.sha256, bytes=w.bytes) for w in facts.beside]
    return [graph, *weights]


def _operations(graphs: Graphs) -> tuple[str, ...]:
    made = {
        operations.ENCODE: graphs.encode,
        operations.DECODE: graphs.decode,
        operations.RECONSTRUCT: graphs.reconstruct,
        operations.ANOMALY_SCORE: graphs.score,
    }
    return tuple(name for name, graph in made.items() if graph is not None)
