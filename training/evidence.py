"""What a package in memory gives for rows, for measures that look at codes and layers as well."""

from service.blueprint import make_graphs
from service.inference.graphs import CODE, RECONSTRUCTION, SCORE
from service.inference.providers import Device
from service.inference.session import OrtSession
from service.packaging import answers
from service.repository.packages import Package
from service.scoring.catalogue import Evidence
from service.specs import Rows


def gather(package: Package, rows: Rows) -> Evidence:
    """Run the graphs that serve on *rows*, and on what they make of them."""
    given = answers(package, rows)
    again = given[RECONSTRUCTION]
    return Evidence(
        rows,
        again,
        given[CODE],
        layers=[*_layers(package, rows), given[CODE]],
        layers_again=[*_layers(package, again), answers(package, again)[CODE]],
        mse=given[SCORE],
    )


def _layers(package: Package, rows: Rows) -> list[Rows]:
    """Give the inner layers of the encoder's side, in the order in which the server has them."""
    graphs = make_graphs(package)
    if graphs.cut_layers is None or not graphs.encoder_layers:
        return []
    session = OrtSession(graphs.cut_layers(graphs.encoder_layers), Device())
    try:
        return list(session.run(rows))
    finally:
        session.close()
