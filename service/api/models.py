"""What is served: the list of models and their cards."""

from itertools import groupby

from fastapi import APIRouter, Request

from service.api.inputs import accepted
from service.api.outputs import shortest
from service.api.runtime import runtime_of
from service.api.schemas import (
    CardCalibration,
    CardTensor,
    ModelCard,
    ModelList,
    ModelSummary,
    OperationCost,
    Placement,
)
from service.assembly import AUTO_MAX_ROWS, LiveModel
from service.errors import InvalidRowsError, UnavailableError
from service.inference.cost import CostModel
from service.registry import Entry
from service.repository.manifest import Manifest
from service.scoring.calibration import Calibration

router = APIRouter(prefix="/v1/models", tags=["models"])

CARD_RATES = (0.1, 0.05, 0.01, 0.001)


@router.get("", summary="List the models")
async def list_models(request: Request) -> ModelList:
    """List every model in the repository with its versions."""
    entries = runtime_of(request.scope).registry.entries()
    by_name = groupby(entries, key=lambda entry: entry.location.name)
    return ModelList(models=[_summary(name, list(versions)) for name, versions in by_name])


@router.get("/{model}", summary="Show a model's card")
async def show_model(request: Request, model: str) -> ModelCard:
    """Show the card of the version that answers by default."""
    return _card(runtime_of(request.scope).registry.find(model))


@router.get("/{model}/versions/{version}", summary="Show the card of one version")
async def show_model_version(request: Request, model: str, version: str) -> ModelCard:
    """Show the card of one version."""
    return _card(runtime_of(request.scope).registry.find(model, version))


def _summary(name: str, versions: list[Entry]) -> ModelSummary:
    live = [entry.live for entry in versions if entry.live is not None]
    return ModelSummary(
        name=name,
        versions=[str(entry.location.version) for entry in versions],
        labels={},
        ready=bool(live),
        operations=live[-1].autoencoder.operations if live else [],
    )


def _card(entry: Entry) -> ModelCard:
    manifest, live = entry.manifest, entry.live
    if manifest is None:
        raise UnavailableError(f"the model is {entry.state} and its card cannot be read")
    size, ratio = _compression(manifest)
    return ModelCard(
        name=manifest.name,
        version=str(manifest.version),
        labels=[],
        state=entry.state,
        ready=entry.state == "ready",
        title=manifest.title,
        description=manifest.description,
        licence=manifest.licence,
        intended_use=manifest.intended_use,
        not_for=manifest.not_for,
        operations=live.autoencoder.operations if live else [],
        input=CardTensor.of(manifest.input, accepted(manifest.input)),
        code=manifest.code and CardTensor.of(manifest.code, accepted(manifest.code)),
        output=manifest.output and CardTensor.of(manifest.output),
        output_kind=manifest.output_kind,
        layers=manifest.layers,
        further_outputs=manifest.further_outputs,
        code_size=size,
        compression_ratio=ratio,
        preprocessing=manifest.preprocessing,
        architecture=manifest.architecture,
        training=manifest.training,
        quality=manifest.quality,
        calibration=_calibration(manifest, live),
        batch_invariance=manifest.batch_invariance,
        placement=live and _placement(live),
        files=manifest.files,
    )


def _compression(manifest: Manifest) -> tuple[int | None, float | None]:
    code = manifest.code
    if code is None or not (code.is_fixed and manifest.input.is_fixed):
        return None, None
    row_bytes = manifest.input.size * manifest.input.numpy_dtype.itemsize
    return code.size, row_bytes / (code.size * code.numpy_dtype.itemsize)


def _calibration(manifest: Manifest, live: LiveModel | None) -> CardCalibration | None:
    if live is None or live.calibration is None:
        return None
    calibration, stored, facts = live.calibration, live.calibration_set, manifest.calibration
    data = stored.description if stored is not None else facts.data if facts is not None else ""
    return CardCalibration(
        name=None if stored is None else stored.name,
        version=None if stored is None else stored.version,
        rows=calibration.rows,
        data=data,
        metrics=calibration.measures,
        default_metric=calibration.default_measure,
        default_false_positive_rate=calibration.default_false_positive_rate,
        thresholds=shown_thresholds(calibration),
        knows_domain=calibration.domain is not None,
    )


def shown_thresholds(calibration: Calibration) -> dict[str, dict[str, float]]:
    """Give for each measure thresholds for the usual rates."""
    return {measure: _thresholds(calibration, measure) for measure in calibration.measures}


def _thresholds(calibration: Calibration, measure: str) -> dict[str, float]:
    """Give thresholds for the usual rates, as far as the sample can show them."""
    found = {}
    for rate in CARD_RATES:
        try:
            found[f"{rate:g}"] = float(str(shortest(calibration.threshold(measure, rate))))
        except InvalidRowsError:
            break
    return found


def _placement(live: LiveModel) -> Placement:
    nodes = {operation: dict(placed) for operation, placed in live.nodes.items()}
    batchers = live.autoencoder.batchers.items()
    return Placement(
        provider=live.provider,
        device=str(live.device),
        graph_nodes=nodes,
        fixed_batch_rows=live.manifest.fixed_batch_rows,
        cost={operation: _cost(batcher.cost) for operation, batcher in batchers},
    )


def _cost(cost: CostModel) -> OperationCost:
    return OperationCost(
        rows=list(cost.rows),
        seconds=[round(seconds, 9) for seconds in cost.seconds],
        base_s=round(cost.fit.base_s, 9),
        row_s=round(cost.fit.row_s, 9),
        rows_per_s=round(cost.rows_per_s, 1),
        useful_rows=min(cost.useful_rows, AUTO_MAX_ROWS),
    )
