"""Which tensor of an autoencoder file is its code: found, or asked."""

from collections.abc import Sequence
from typing import Final

from service.errors import ConfigurationError, QuestionError
from service.importing.trial import Trial
from service.importing.wishes import Wishes
from service.inference import bottleneck
from service.inference.bottleneck import Candidate, Finding
from service.inference.dataflow import makers
from service.inference.foreign import Foreign
from service.inference.repointing import repoint, sizes_asked
from service.specs import Shape

# candidates that a question shows
_SHOWN: Final = 16


def choose_code(trial: Trial, wishes: Wishes) -> tuple[str | None, str]:
    """Settle on a code, and say why it is that.

    Raises:
        QuestionError: It is not clear; shows what it could be.
        ConfigurationError: There is no such tensor.
    """
    if wishes.has_no_code:
        return None, "no code, as you asked"
    wanted = wishes.code or wishes.code_output
    if wanted is not None:
        _check_is_there(trial.foreign, wanted)
        return wanted, "as you asked"
    finding = _found(trial)
    if finding.code is None:
        raise QuestionError(_question(trial.foreign, finding))
    return finding.code, finding.reason


def with_decoder(trial: Trial, code: str, row: Shape) -> tuple[Foreign, str | None]:
    """Make what lies behind the code work without the input, where it can.

    Returns:
        The graph, and why there will be no decoder, if there is none.
    """
    foreign = trial.foreign
    if bottleneck.reaches_around(foreign.model, code):
        return foreign, f"data of the input goes around {code} (skip connections)"
    asked = sizes_asked(foreign.model, code)
    if not asked:
        return foreign, None
    made = repoint(foreign, code, trial.see([*asked, code]), row)
    if made is foreign:
        return foreign, "behind the code the sizes of the input are asked for, and they are free"
    return made, None


def _check_is_there(foreign: Foreign, tensor: str) -> None:
    graph = foreign.model.graph
    ends = {value.name for value in [*graph.input, *graph.output]}
    if tensor not in makers(graph) or tensor in ends:
        raise ConfigurationError(
            f"{foreign.facts.file} has no inner tensor {tensor}; import it without --code to see"
            " those that could be the code"
        )


def _found(trial: Trial) -> Finding:
    """Look for the code; with free axes of two lengths, for widths may change places."""
    model = trial.foreign.model
    candidates = bottleneck.cuts(model)
    findings = {}
    for rows in [trial.rows] if trial.others is None else [trial.rows, trial.others]:
        seen = trial.see([each.tensor for each in candidates], rows)
        known = bottleneck.measured(candidates, seen, trial.run_rows)
        width = int(rows[0].size)
        findings[width] = bottleneck.find_code(model, known, width)
    return bottleneck.compared(findings)


def _question(foreign: Foreign, finding: Finding) -> str:
    advice = (
        "Choose a tensor with --code TENSOR, or import without a code with --no-code (reconstruct"
        " and anomaly-score alone)."
    )
    text = f"the code of {foreign.facts.file} is not clear: {finding.reason}."
    return f"{text}{_table(finding.candidates)}\n{advice}"


def _table(candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return ""
    narrow = sorted(sorted(candidates, key=lambda each: each.values)[:_SHOWN], key=_place)
    rows = [("tensor", "a row", "values", "made by")]
    rows += [
        (each.tensor, str(list(each.shape)), str(each.values), each.operator) for each in narrow
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)) for row in rows]
    left = len(candidates) - len(narrow)
    more = [f"and {left} wider ones"] if left else []
    return "".join(f"\n  {line.rstrip()}" for line in [*lines, *more])


def _place(candidate: Candidate) -> int:
    return candidate.place
