"""Networks in other number formats: close to the original, and every profiled node still tells its unit."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto
from small_onnx import conv_net

from energysplit.errors import InputError
from energysplit.measure import device_run
from energysplit.measure.attribution import units_of
from energysplit.measure.precision import converted
from energysplit.measure.samples import read_results


def output(model: bytes, x: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


@pytest.fixture(scope="module")
def net() -> bytes:
    return conv_net([8, 16, 24], size=8)


def test_fp32_is_the_same_bytes(net):
    assert converted(net, "fp32") is net


# Relative errors: fp16 has 11 bits; int8 has 8 and ranges found on four random inputs.
@pytest.mark.parametrize(("precision", "error"), [("fp16", 0.01), ("int8", 0.2)])
def test_the_converted_network_computes_about_the_same(net, precision, error):
    x = np.random.default_rng(5).standard_normal((1, 3, 8, 8)).astype(np.float32)
    model = converted(net, precision)
    expected, given = output(net, x), output(model, x)
    assert given.dtype == np.float32
    assert given.shape == expected.shape
    assert 0 < np.linalg.norm(given - expected) < error * np.linalg.norm(expected)


def test_weights_are_in_the_precision_asked_for(net):
    half, eight = onnx.load_from_string(converted(net, "fp16")), onnx.load_from_string(converted(net, "int8"))
    assert TensorProto.FLOAT not in {weight.data_type for weight in half.graph.initializer}
    # Scales are float32; all weights with more than one element are int8, biases int32.
    types = {weight.data_type for weight in eight.graph.initializer if len(weight.dims) > 1}
    assert types == {TensorProto.INT8}


def test_conversion_is_the_same_each_time(net):
    for precision in ("fp16", "int8"):
        assert converted(net, precision) == converted(net, precision)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("depthwise", [True, False])
def test_every_profiled_node_tells_its_unit(make_folder, precision, depthwise):
    """Whatever the runtime fuses, renames or puts in between, units come in order and each has its main operation."""
    folder = make_folder(count=1)
    (folder / "n0.onnx").write_bytes(converted(conv_net([8, 16, 24], depthwise=depthwise), precision))
    device_run.run(str(folder))
    model = read_results(folder / "results.csv").models["n0"]
    units = units_of([node.node for node in model.nodes])
    convs = 5 if depthwise else 3
    assert units == sorted(units)
    assert set(units) == set(range(convs + 2))
    kinds = {unit: {node.op_type for node, of in zip(model.nodes, units, strict=True) if of == unit} for unit in units}
    for unit in range(convs):
        assert kinds[unit] & {"Conv", "QLinearConv"}
        assert not kinds[unit] & {"Relu", "Gemm", "QGemm", "GlobalAveragePool"}
    assert kinds[convs] & {"GlobalAveragePool", "QLinearGlobalAveragePool"}
    assert kinds[convs + 1] & {"Gemm", "QGemm"}
    # What has no unit in its name is only layout and type, never an operation that computes.
    between = {node.op_type for node in model.nodes if "u" not in node.node.replace("ReorderOutput", "").lower()}
    assert between <= {"ReorderInput", "ReorderOutput", "Transpose", "QuantizeLinear", "DequantizeLinear", "Cast"}


def test_nodes_between_belong_to_the_unit_before():
    nodes = ["x_QuantizeLinear", "Transpose", "u0.0_token_1", "Transpose_token_7", "u12.1_nchwc", "graph_output_cast0"]
    assert units_of(nodes) == [0, 0, 0, 0, 12, 12]
    assert units_of(["InsertedPrecisionFreeCast_u3.1_nchwc", "relu7.1", "ReorderOutput"]) == [3, 3, 3]
    with pytest.raises(InputError, match=r"no node has the name of a unit's value .* names conv1, relu"):
        units_of(["conv1", "relu"])
    with pytest.raises(InputError, match="names nothing"):
        units_of([])


def test_unknown_precisions_and_models_that_do_not_convert_are_named(net):
    with pytest.raises(InputError, match="precision 'int4': did you mean 'int8'"):
        converted(net, "int4")
    for precision in ("fp16", "int8"):
        with pytest.raises(InputError, match=f"can't be converted to {precision}: .*; measure it in fp32"):
            converted(b"no model", precision)
