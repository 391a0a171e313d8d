"""Networks in the number format a device computes in: fp32 as they are, fp16, or int8.

fp16: weights and activations, by onnxruntime's converter; input and output stay float32. int8: static quantisation by
onnxruntime.quantization, 8-bit unsigned activations and 8-bit signed weights, as pairs of quantise and dequantise nodes
that the runtime fuses; ranges come from seeded normal inputs, which is right for time and energy and wrong for
accuracy. Values keep their names, so that units can be told apart afterwards (`attribution`).
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from energysplit.errors import InputError, nearest

Precision = Literal["fp32", "fp16", "int8"]
CALIBRATION_SAMPLES = 4


def converted(model: bytes, precision: Precision) -> bytes:
    """The ONNX model in that precision; fp32 is returned as it is.

    Args:
        model: an ONNX model in float32, with one input.
        precision: "fp32", "fp16" or "int8".

    Raises:
        InputError: unknown precision, or a model that can't be converted.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision {precision!r}: {nearest(str(precision), get_args(Precision))}")
    if precision == "fp32":
        return model
    try:
        return _fp16(model) if precision == "fp16" else _int8(model)
    except InputError:
        raise
    except Exception as error:  # whatever the converters raise: they have no errors of their own
        raise InputError(f"the model can't be converted to {precision}: {error}; measure it in fp32") from error


def _fp16(model: bytes) -> bytes:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half = convert_float_to_float16(onnx.load_from_string(model), keep_io_types=True)
    return bytes(half.SerializeToString())


def _int8(model: bytes) -> bytes:
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Hands out the calibration inputs once."""

        def __init__(self, feeds: list[dict[str, np.ndarray]]) -> None:
            self.feeds = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next input; None when there are no more."""
            return next(self.feeds, None)

    feeds = _calibration(model)
    # It recommends a fusing step beforehand, to everybody; that step renames nodes, and the runtime fuses anyway.
    root = logging.getLogger()
    quiet = _without("pre-processing")
    root.addFilter(quiet)
    try:
        with tempfile.TemporaryDirectory(prefix="energysplit_int8_") as folder:
            source, result = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
            source.write_bytes(model)
            quantization.quantize_static(
                source,
                result,
                Reader(feeds),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
            return result.read_bytes()
    finally:
        root.removeFilter(quiet)


def _calibration(model: bytes) -> list[dict[str, np.ndarray]]:
    """Standard normal inputs of the model's one input; a symbolic first size is 1."""
    import onnx

    graph = onnx.load_from_string(model).graph
    weights = {initializer.name for initializer in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise InputError(f"int8 needs a model with one input, given {', '.join(i.name for i in inputs) or 'none'}")
    sizes = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
    shape = [size or 1 for size in sizes[:1]] + sizes[1:]
    if not all(shape):
        raise InputError(f"int8 needs an input of fixed sizes after the first, given {sizes} for {inputs[0].name}")
    random = np.random.default_rng(0)
    return [{inputs[0].name: random.standard_normal(shape).astype(np.float32)} for _ in range(CALIBRATION_SAMPLES)]


def _without(words: str) -> Any:
    """A logging filter that drops messages with these words."""

    def keep(record: logging.LogRecord) -> bool:
        return words not in record.getMessage()

    return keep
