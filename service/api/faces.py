"""Faces: how an autoencoder appears in the Open Inference Protocol.

``NAME`` takes the model's input and gives code, reconstruction and score, as far as the model
has them; ``NAME.decoder`` takes the code and gives the reconstruction. A model's own name has no
dot, so nothing is ambiguous.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from service.assembly import LiveModel
from service.bodies.open_inference import Source
from service.errors import UnknownModelError
from service.inference import operations
from service.inference.graphs import CODE, INPUT, RECONSTRUCTION, SCORE
from service.metrics import OperationMetrics
from service.registry import Registry
from service.specs import TensorSpec

DECODER: Final = ".decoder"

_SCORES: Final = TensorSpec("float32", ())

# which operation gives an output when it is asked for alone, in the order of the answers
_GIVEN_BY: Final = {
    CODE: operations.ENCODE,
    RECONSTRUCTION: operations.RECONSTRUCT,
    SCORE: operations.ANOMALY_SCORE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """A model of the protocol.

    Attributes:
        live: The autoencoder behind it.
        source: Its input, and the names of its outputs.
        outputs: What a row of each output looks like.
        operations: Which operation gives an output that is asked for alone.
        metrics: Series of its requests.
        activity: Everything that counts as its activity: of those requests, and of operations.
    """

    name: str
    live: LiveModel
    source: Source
    outputs: Mapping[str, TensorSpec]
    operations: Mapping[str, str]
    metrics: OperationMetrics
    activity: tuple[OperationMetrics, ...]


class Faces:
    """The faces that were asked for lately; forgotten when the models change."""

    def __init__(self) -> None:
        self._faces: dict[tuple[str, str | None], Face] = {}
        self._changes = -1

    def find(self, registry: Registry, name: str, version: str | None) -> Face:
        """Find the face that answers; see *find_face*."""
        if registry.changes != self._changes:
            self._faces.clear()
            self._changes = registry.changes
        # there are no more of them than versions, for a name that does not exist is not kept
        face = self._faces.get((name, version))
        if face is None:
            face = self._faces[name, version] = find_face(registry, name, version)
        return face


def find_face(registry: Registry, name: str, version: str | None = None) -> Face:
    """Find the face of *name*, in *version* or in the newest that serves.

    Raises:
        UnknownModelError: No such model or version, or it has no decoder.
        UnsupportedOperationError: *version* is a label that the model does not have.
        UnavailableError: It is there but does not serve.
    """
    live = registry.resolve(name.removesuffix(DECODER), version)
    for face in faces_of(live):
        if face.name == name:
            return face
    raise UnknownModelError("no such model: this one has no decoder of its own")


def faces_of(live: LiveModel) -> list[Face]:
    """Give the faces of *live*: itself, and its decoder where it has one."""
    faces = [_whole(live)]
    if operations.DECODE in live.autoencoder.operations:
        faces.append(_decoder(live))
    return faces


def _whole(live: LiveModel) -> Face:
    manifest = live.manifest
    specs = {CODE: manifest.code, RECONSTRUCTION: manifest.output, SCORE: _SCORES}
    possible = live.autoencoder.operations
    outputs = {
        name: spec
        for name, spec in specs.items()
        if spec is not None and _GIVEN_BY[name] in possible
    }
    return Face(
        name=live.name,
        live=live,
        source=Source(INPUT, manifest.input, tuple(outputs)),
        outputs=outputs,
        operations={name: _GIVEN_BY[name] for name in outputs},
        metrics=live.operation_metrics[operations.INFER],
        activity=tuple(
            live.operation_metrics[name] for name in (*_GIVEN_BY.values(), operations.INFER)
        ),
    )


def _decoder(live: LiveModel) -> Face:
    code, output = live.manifest.code, live.manifest.output
    if code is None or output is None:
        raise AssertionError("a model that decodes has a code and an output")
    return Face(
        name=live.name + DECODER,
        live=live,
        source=Source(CODE, code, (RECONSTRUCTION,)),
        outputs={RECONSTRUCTION: output},
        operations={RECONSTRUCTION: operations.DECODE},
        metrics=live.decoder_metrics,
        activity=(live.operation_metrics[operations.DECODE], live.decoder_metrics),
    )
