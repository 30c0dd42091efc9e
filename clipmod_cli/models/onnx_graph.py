"""Rewrites an ONNX graph into one that computes the same numbers sooner. Knows no model.

onnxruntime's softmax along any axis but the last takes eight times as long on a CPU (1.31, the
detector's: 5.6 ms of 44); with the axis turned to the end and back it gives the same bits.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def quickened(path: Path) -> bytes:
    """Return the model in this file, with every softmax along its last axis where that can be had.

    It is returned as it is where the `onnx` package, which rewrites it, is not installed.
    """
    if importlib.util.find_spec("onnx") is None:
        return path.read_bytes()
    import onnx

    model = onnx.load(path)
    _turn_softmaxes(model)
    rewritten: bytes = model.SerializeToString()
    return rewritten


def _turn_softmaxes(model: ModelProto) -> None:
    ranks = _known_ranks(model)
    nodes = [
        turned
        for node in model.graph.node
        for turned in _turned(node, ranks.get(node.input[0]) if node.input else None)
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _known_ranks(model: ModelProto) -> dict[str, int]:
    """Return how many axes those tensors have that come from a transposition."""
    return {
        node.output[0]: len(attribute.ints)
        for node in model.graph.node
        if node.op_type == "Transpose"
        for attribute in node.attribute
        if attribute.name == "perm"
    }


def _turned(node: NodeProto, rank: int | None) -> Sequence[NodeProto]:
    """Return the nodes that stand for this one: itself, or a softmax between two transpositions."""
    axis = next((attribute for attribute in node.attribute if attribute.name == "axis"), None)
    if node.op_type != "Softmax" or rank is None or axis is None or axis.i in (-1, rank - 1):
        return [node]
    from onnx.helper import make_node

    there = [*(one for one in range(rank) if one != axis.i % rank), axis.i % rank]
    back = [there.index(one) for one in range(rank)]
    before, after = f"{node.name}/turned", f"{node.name}/softmax"
    first = make_node("Transpose", [node.input[0]], [before], perm=there, name=f"{before}/there")
    last = make_node("Transpose", [after], [node.output[0]], perm=back, name=f"{after}/back")
    axis.i = -1
    node.input[0], node.output[0] = before, after
    return [first, node, last]
