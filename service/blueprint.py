"""Which graphs a package becomes, and how they are run: what serving, packing and trying share."""

from collections.abc import Mapping
from typing import Final

from service.errors import PackageError
from service.inference import operations
from service.inference.graphs import Graphs, Signature, from_pair, from_whole
from service.inference.inner import Inner
from service.inference.invariance import Run, in_fixed_batches, in_short_batches
from service.inference.session import Session, Stop
from service.repository.manifest import InnerTensor, Manifest
from service.repository.packages import Package
from service.specs import Rows

# weights of autoencoders are small and a session for each operation keeps the way of a request
# plain; above this the memory of four copies weighs more
JOIN_MAX_BYTES: Final = 64 * 1024 * 1024


def make_graphs(package: Package) -> Graphs:
    """Cut and join the graphs of a package.

    Raises:
        PackageError: The files are not usable graphs, or do not fit the manifest.
    """
    manifest = package.manifest
    signature = signature_of(manifest)
    names = manifest.graphs
    if names.autoencoder is not None:
        whole = package.files[names.autoencoder]
        return from_whole(whole, names.code_tensor, signature, output=names.output)
    if names.encoder is None:
        raise PackageError("the manifest names no encoder")
    decoder = package.files[names.decoder] if names.decoder else None
    return from_pair(
        package.files[names.encoder],
        decoder,
        signature,
        code_output=names.code_output,
        output=names.output,
    )


def is_large(package: Package, join_max_bytes: int = JOIN_MAX_BYTES) -> bool:
    """Whether a model's graphs are run in turn instead of joined, by the bytes of its files."""
    return sum(len(package.files[name]) for name in package.manifest.graphs.names) > join_max_bytes


def is_joined(package: Package, graphs: Graphs, join_max_bytes: int = JOIN_MAX_BYTES) -> bool:
    """Whether each operation has a graph of its own, and all outputs together one as well."""
    return graphs.decode is None or not is_large(package, join_max_bytes)


def opened_graphs(
    package: Package, graphs: Graphs, join_max_bytes: int = JOIN_MAX_BYTES
) -> dict[str, bytes]:
    """Choose the graphs that have a session from the start, by operation."""
    wanted = {operations.ENCODE: graphs.encode, operations.DECODE: graphs.decode}
    if is_joined(package, graphs, join_max_bytes):
        wanted |= {
            operations.RECONSTRUCT: graphs.reconstruct,
            operations.ANOMALY_SCORE: graphs.score,
        }
    return {name: graph for name, graph in wanted.items() if graph is not None}


def served_graphs(
    package: Package, graphs: Graphs, join_max_bytes: int = JOIN_MAX_BYTES
) -> dict[str, bytes]:
    """Choose the graphs that get a session of their own, from the start or later, by operation."""
    opened = opened_graphs(package, graphs, join_max_bytes)
    if graphs.cut_everything is None or not is_joined(package, graphs, join_max_bytes):
        return opened
    return {**opened, operations.INFER: graphs.cut_everything()}


def served_run(session: Session, manifest: Manifest, stop: Stop | None = None) -> Run:
    """Give the runs of *session* as a batcher makes them: of no more rows, or all of one size."""

    def run(rows: Rows) -> tuple[Rows, ...]:
        return session.run(rows, stop)

    most = manifest.max_batch_rows
    if most is None:
        return run
    return (in_fixed_batches if manifest.invariant else in_short_batches)(run, most)


def signature_of(manifest: Manifest) -> Signature:
    """Say what the manifest promises of the graphs."""
    return Signature(
        manifest.input,
        manifest.code,
        manifest.output,
        manifest.reconstructs,
        layers=_inner(manifest.layers),
        further=_inner(manifest.further_outputs),
    )


def _inner(named: Mapping[str, InnerTensor]) -> dict[str, Inner]:
    return {name: Inner(each.file, each.tensor, each.spec) for name, each in named.items()}
