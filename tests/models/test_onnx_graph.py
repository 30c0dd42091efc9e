"""A rewritten graph gives the same bits, and has no softmax left that is slow."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from clipmod_cli.models import nudenet
from clipmod_cli.models.onnx_graph import quickened


def axes_of_softmaxes(model: bytes) -> list[int]:
    nodes = onnx.load_from_string(model).graph.node
    return [a.i for node in nodes if node.op_type == "Softmax" for a in node.attribute if a.name == "axis"]


def outputs(model: bytes, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: images})
    return np.asarray(result)


def test_the_detector_gives_the_same_bits() -> None:
    path = nudenet.model_path()
    assert axes_of_softmaxes(path.read_bytes()) == [1]
    assert axes_of_softmaxes(quickened(path)) == [-1]
    images = np.random.default_rng(0).random((2, 3, 320, 320), dtype=np.float32)
    assert outputs(quickened(path), images).tobytes() == outputs(path.read_bytes(), images).tobytes()


@given(axis=st.integers(-3, 2), order=st.permutations(range(3)))
def test_any_axis_gives_the_same_numbers(
    axis: int, order: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    nodes = [
        helper.make_node("Transpose", ["in"], ["turned"], perm=order),
        helper.make_node("Softmax", ["turned"], ["out"], axis=axis, name="soft"),
    ]
    sizes = [2, 3, 5]
    given_ = helper.make_tensor_value_info("in", TensorProto.FLOAT, sizes)
    wanted = helper.make_tensor_value_info("out", TensorProto.FLOAT, [sizes[one] for one in order])
    graph = helper.make_graph(nodes, "small", [given_], [wanted])
    path = tmp_path_factory.mktemp("graph") / "small.onnx"
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]), path)
    numbers = np.random.default_rng(1).standard_normal(sizes, dtype=np.float32)
    np.testing.assert_allclose(
        outputs(quickened(path), numbers), outputs(path.read_bytes(), numbers), rtol=1e-6
    )
    assert axes_of_softmaxes(quickened(path))[0] in (-1, 2)


def test_a_softmax_of_unknown_shape_is_left_alone(tmp_path: Path) -> None:
    node = helper.make_node("Softmax", ["in"], ["out"], axis=1)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("in", "out")]
    path = tmp_path / "unknown.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "unknown", ends[:1], ends[1:])), path)
    assert axes_of_softmaxes(quickened(path)) == [1]


def test_without_the_package_the_file_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    path = Path(nudenet.__file__)
    assert quickened(path) == path.read_bytes()
