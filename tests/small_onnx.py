"""Small ONNX networks for the measuring tests, made with onnx alone."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def conv_net(channels: list[int], size: int = 8, depthwise: bool = True, seed: int = 0) -> bytes:
    """A chain of convolutions with ReLU (and a depthwise one after each but the first), pooled, then a linear layer.

    Values are named u<unit>.<part>, as the templates of a sweep name them.
    """
    random = np.random.default_rng(seed)
    nodes, weights, unit, value, width = [], [], 0, "x", 3

    def weight(name: str, *shape: int) -> str:
        weights.append(numpy_helper.from_array(random.standard_normal(shape).astype(np.float32) * 0.2, name))
        return name

    def conv(value: str, c_in: int, c_out: int, groups: int) -> str:
        nonlocal unit
        inputs = [value, weight(f"w{unit}", c_out, c_in // groups, 3, 3), weight(f"b{unit}", c_out)]
        first, last = f"u{unit}.0", f"u{unit}.1"
        nodes.append(helper.make_node("Conv", inputs, [first], first, kernel_shape=[3, 3], pads=[1] * 4, group=groups))
        nodes.append(helper.make_node("Relu", [first], [last], last))
        unit += 1
        return last

    for number, c_out in enumerate(channels):
        value, width = conv(value, width, c_out, 1), c_out
        if depthwise and number:
            value = conv(value, width, width, width)
    pooled, flat, last = f"u{unit}.0", f"u{unit}.1", f"u{unit + 1}.0"
    nodes.append(helper.make_node("GlobalAveragePool", [value], [pooled], pooled))
    nodes.append(helper.make_node("Flatten", [pooled], [flat], flat))
    nodes.append(helper.make_node("Gemm", [flat, weight("wl", 10, width), weight("bl", 10)], [last], last, transB=1))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
