"""Scaling put into a graph, so that nobody who asks it does so by hand, or twice."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper, numpy_helper

from service.inference.dataflow import copied, rename_reads
from service.inference.foreign import Foreign
from service.specs import Rows

Constant: TypeAlias = npt.NDArray[np.float64]


class Scaling:
    """What is taken off each value and what it is divided by, in the shape that a row needs."""

    def __init__(self, mean: Constant, standard_deviation: Constant) -> None:
        self.mean = mean
        self.standard_deviation = standard_deviation

    def scaled(self, rows: Rows) -> Rows:
        """Give what the model was trained on: ``(rows - mean) / standard_deviation``."""
        made: Rows = ((rows - self.mean) / self.standard_deviation).astype(rows.dtype)
        return made

    def restored(self, rows: Rows) -> Rows:
        """Give values of the client's own again."""
        made: Rows = (rows * self.standard_deviation + self.mean).astype(rows.dtype)
        return made

    def in_front_of(self, foreign: Foreign) -> Foreign:
        """Let a graph scale its input itself."""
        source = foreign.inputs[0].name
        scaled = f"{source}/scaled"
        steps = [
            ("Sub", [source, f"{source}/mean"], f"{source}/centred"),
            ("Div", [f"{source}/centred", f"{source}/standard_deviation"], scaled),
        ]
        made = self._with(foreign, source)
        nodes = [copied(node) for node in made.model.graph.node]
        rename_reads(nodes, {source: scaled})
        _replace(made, [*_made(steps), *nodes])
        return made.changed(made.model, "the input is scaled in the graph")

    def behind(self, foreign: Foreign) -> Foreign:
        """Let a graph undo the scaling of its output."""
        target = foreign.outputs[0].name
        scaled = f"{target}/scaled"
        steps = [
            ("Mul", [scaled, f"{target}/standard_deviation"], f"{target}/stretched"),
            ("Add", [f"{target}/stretched", f"{target}/mean"], target),
        ]
        made = self._with(foreign, target)
        nodes = [copied(node) for node in made.model.graph.node]
        rename_reads(nodes, {target: scaled})
        for node in nodes:
            node.output[:] = [scaled if name == target else name for name in node.output]
        _replace(made, [*nodes, *_made(steps)])
        return made.changed(made.model, "the scaling of the output is undone in the graph")

    def _with(self, foreign: Foreign, tensor: str) -> Foreign:
        """The same with both constants, in the type of *tensor*."""
        made = foreign.changed(type(foreign.model)())
        made.model.CopyFrom(foreign.model)
        dtype = next(
            value.dtype for value in (*foreign.inputs, *foreign.outputs) if value.name == tensor
        )
        for name, value in (("mean", self.mean), ("standard_deviation", self.standard_deviation)):
            constant = numpy_helper.from_array(value.astype(dtype), f"{tensor}/{name}")
            made.model.graph.initializer.append(constant)
        return made


def _made(steps: list[tuple[str, list[str], str]]) -> list[NodeProto]:
    return [helper.make_node(operator, given, [gives]) for operator, given, gives in steps]


def _replace(foreign: Foreign, nodes: list[NodeProto]) -> None:
    graph = foreign.model.graph
    del graph.node[:]
    graph.node.extend(nodes)
