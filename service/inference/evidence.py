"""What a model gives for rows beside a score: all that measures and the domain guard look at.

Always by the same graphs, whatever is asked for: the bits of a score must not depend on what else
a request wants to know.
"""

from collections.abc import Collection
from typing import Final

from service.inference.autoencoder import Autoencoder
from service.inference.graphs import CODE, RECONSTRUCTION, SCORE
from service.inference.operations import ANOMALY_SCORE, ENCODE
from service.inference.ticket import Ticket
from service.scoring.catalogue import Evidence, Need
from service.specs import Rows

_ALL: Final = (CODE, RECONSTRUCTION, SCORE)


def given_by(model: Autoencoder) -> frozenset[Need]:
    """Say what a model can give for the scoring of rows; nothing where it has no scores.

    Codes and layers count where all rows have one shape: what is learned from some is compared
    with others.
    """
    signature = model.signature
    if ANOMALY_SCORE not in model.operations:
        return frozenset()
    code = signature.code
    if ENCODE not in model.operations or code is None or not signature.input.is_fixed:
        return frozenset({"reconstruction"})
    specs = [code, *(signature.layers[name].spec for name in model.encoder_layers)]
    if not all(spec.is_fixed for spec in specs):
        return frozenset({"reconstruction"})
    return frozenset({"reconstruction", "code", "layers"})


def pathway_length(model: Autoencoder) -> int:
    """Count the values that all layers of the encoder and the code have for one row."""
    signature = model.signature
    code = 0 if signature.code is None else signature.code.size
    return code + sum(signature.layers[name].spec.size for name in model.encoder_layers)


async def gather(
    model: Autoencoder, needs: Collection[Need], rows: Rows, ticket: Ticket
) -> Evidence:
    """Run a model for what *needs* says, on rows of its input.

    One run gives code, reconstruction and mean squared error; layers take three more, for the
    reconstruction is encoded again.

    Raises:
        UnsupportedOperationError: The model does not reconstruct its input.
        InferenceError: It fails on a row.
    """
    model.check(ANOMALY_SCORE)
    found = await model.infer(rows, ticket, _ALL)
    reconstructions, codes = found[RECONSTRUCTION], found.get(CODE)
    evidence = Evidence(rows, reconstructions, codes, mse=found[SCORE])
    if "layers" not in needs or codes is None:
        return evidence
    return Evidence(
        rows,
        reconstructions,
        codes,
        layers=[*await _layers(model, rows, ticket), codes],
        layers_again=[
            *await _layers(model, reconstructions, ticket),
            await model.encode(reconstructions, ticket),
        ],
        mse=found[SCORE],
    )


async def _layers(model: Autoencoder, rows: Rows, ticket: Ticket) -> list[Rows]:
    if not model.encoder_layers:
        return []
    return list((await model.layers(rows, ticket)).values())
