"""Scores with the error of every feature, as the paths that need both have them."""

from service.inference.autoencoder import Autoencoder
from service.inference.evidence import gather
from service.inference.ticket import Ticket
from service.scoring.measures import Scores, feature_errors
from service.specs import Rows


async def score_features(model: Autoencoder, rows: Rows, ticket: Ticket) -> tuple[Scores, Rows]:
    """Give the bits of *Autoencoder.score*, and the squared error of every feature."""
    evidence = await gather(model, (), rows, ticket)
    assert evidence.mse is not None
    assert evidence.reconstructions is not None
    width = model.signature.input.width
    return evidence.mse, feature_errors(rows, evidence.reconstructions, width=width)
