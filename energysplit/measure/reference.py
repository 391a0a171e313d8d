"""The reference network: what every sample is timed beside, because absolute times drift and ratios hold.

A fixed small network of the operations that mobile networks are made of, about a millisecond on one core of a server.
It must stay as it is: tables made with another one can't be joined.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

VERSION = 1
_CHANNELS = (32, 64, 128, 128, 256)
_SIZE = 64


def reference_model() -> bytes:
    """The reference network as an ONNX model: pointwise and depthwise convolutions with ReLU, 3 x 64 x 64 in."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    weights: list[Any] = []
    value = "input"

    def conv(channels_in: int, channels_out: int, kernel: int, stride: int, groups: int) -> None:
        nonlocal value
        number = len(weights)
        shape = (channels_out, channels_in // groups, kernel, kernel)
        weights.append(numpy_helper.from_array(np.full(shape, 1.0 / np.prod(shape[1:]), np.float32), f"w{number}"))
        pads = [kernel // 2] * 4
        options: dict[str, Any] = {
            "kernel_shape": [kernel, kernel],
            "strides": [stride, stride],
            "pads": pads,
            "group": groups,
        }
        nodes.append(helper.make_node("Conv", [value, f"w{number}"], [f"c{number}"], f"c{number}", **options))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"], f"r{number}"))
        value = f"r{number}"

    before = 3
    conv(before, _CHANNELS[0], 3, 2, 1)
    for before, channels in pairwise(_CHANNELS):
        conv(before, before, 3, 1 if before == channels else 2, before)
        conv(before, channels, 1, 1, 1)
        conv(channels, channels, 3, 1, 1)
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["output"], "pool"))
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, _SIZE, _SIZE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, _CHANNELS[-1], 1, 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())
