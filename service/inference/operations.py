"""The names of what a model can do, as clients and metrics write them."""

from typing import Final

ENCODE: Final = "encode"
DECODE: Final = "decode"
RECONSTRUCT: Final = "reconstruct"
ANOMALY_SCORE: Final = "anomaly-score"

ALL: Final = (ENCODE, DECODE, RECONSTRUCT, ANOMALY_SCORE)

# the graph that gives code, reconstruction and score at once
INFER: Final = "infer"

# the graph that gives all layers of the encoder's side at once
LAYERS: Final = "layers"


def of_layer(layer: str) -> str:
    """Name the graph of a layer, as clients ask for it."""
    return f"{ENCODE}?layer={layer}"
