"""Peak MACs a second, memory bandwidth and time per kernel of this machine, for a hardware profile.

    python benchmarks/device_peaks.py [--threads 1] [--rounds 30] [--out benchmarks/results]

Prints TOML numbers to paste into a profile. Peaks are those of ONNX Runtime's own kernels: the best of a large matrix
product and a large 3x3 convolution (float32; int8 with int32 sums). Bandwidth is that of numpy copying an array, read
and written bytes together, with a working set (both arrays) of half of each cache, and 16 times the largest for main
memory. Time per kernel is the slope of the time of a chain of additions of one element over its length. What is
measured is interleaved, round by round; reported is the median and the range from the 5th to the 95th percentile.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from energysplit.hardware.detect import machine

SIDE = 1024
CHANNELS, IMAGE = 128, 56


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, help="folder for the numbers")
    options = parser.parse_args()

    found = machine()
    work: dict[str, tuple[Callable[[], object], float]] = {
        "fp32 matrix product": (matmul("MatMul", np.float32, np.float32, options.threads), SIDE**3),
        "fp32 convolution": (convolution(options.threads), CHANNELS**2 * 9 * IMAGE**2),
        "int8 matrix product": (matmul("MatMulInteger", np.uint8, np.int8, options.threads), SIDE**3),
    }
    largest = max((size for _, size in found.caches), default=32 * 1024**2)
    sizes = [(name, size // 2) for name, size in found.caches if size >= 2**18]
    for name, working_set in [*sizes, ("main memory", 16 * largest)]:
        repeats = max(1, 2**23 // working_set)  # 8 MB a call, so that the call itself does not count
        work[f"copy in {name}"] = (copy(working_set, repeats), working_set * repeats)
    rates: dict[str, list[float]] = {name: [] for name in work}
    kernels: list[float] = []
    short, long = chain(100, options.threads), chain(300, options.threads)
    for run, _ in work.values():
        seconds(run, 2)
    for _ in range(options.rounds):
        for name, (run, amount) in work.items():
            rates[name].append(amount / seconds(run, 3))
        kernels.append(max(0.0, seconds(long, 20) - seconds(short, 20)) / 200)

    how = f"ONNX Runtime {onnxruntime.__version__}, {options.threads} thread(s), {found.processor}"
    lines = [f"# {how}; {options.rounds} rounds", ""]
    for name, samples in rates.items():
        unit = "B/s" if name.startswith("copy") else "MAC/s"
        said = f"numpy {np.__version__}, {name}, read and written bytes" if unit == "B/s" else f"{how}, {name}"
        lines.append(f"# {name}\n{number(samples, unit, said)}")
    lines.append(f"# kernel_overhead\n{number(kernels, 's', f'{how}, slope over chains of 100 and 300 additions')}")
    print("\n".join(lines))
    if options.out:
        (options.out / "device_peaks.toml").write_text("\n".join(lines) + "\n")


def seconds(run: Callable[[], object], calls: int) -> float:
    """Seconds of one call, the fastest of `calls`: what disturbs only ever adds time."""
    best = float("inf")
    for _ in range(calls):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def number(samples: list[float], unit: str, how: str) -> str:
    """A number of a profile: the median, and the range from the 5th to the 95th percentile."""
    low, high = np.percentile(samples, [5, 95])
    values = f"value = {statistics.median(samples):.4g}, low = {low:.4g}, high = {high:.4g}"
    text = f'"measured: median and 5 to 95 % of {len(samples)} rounds, {how}"'
    return f'{{ {values}, unit = "{unit}", source = {text} }}'


def matmul(op: str, left: type, right: type, threads: int) -> Callable[[], object]:
    """A square matrix product with constant right side."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 100, (2, SIDE, SIDE))
    out = TensorProto.INT32 if op == "MatMulInteger" else TensorProto.FLOAT
    return _session(op, a.astype(left), {"b": b.astype(right)}, out, threads)


def convolution(threads: int) -> Callable[[], object]:
    """A 3x3 convolution of 128 channels, 56x56."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, CHANNELS, IMAGE, IMAGE)).astype(np.float32)
    w = rng.standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    return _session("Conv", x, {"w": w}, TensorProto.FLOAT, threads, pads=[1, 1, 1, 1])


def copy(working_set: int, repeats: int) -> Callable[[], object]:
    """Copies one half of the working set onto the other, some times."""
    source = np.ones(working_set // 8, np.float32)
    target = np.zeros_like(source)

    def run() -> None:
        for _ in range(repeats):
            np.copyto(target, source)

    return run


def chain(length: int, threads: int) -> Callable[[], object]:
    """A chain of additions of one element, run as it stands."""
    nodes = [helper.make_node("Add", [f"t{i}", f"t{i}"], [f"t{i + 1}"]) for i in range(length)]
    x = np.zeros((1,), np.float32)
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("t0", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info(f"t{length}", TensorProto.FLOAT, [1])],
    )
    session = _load(graph, threads, optimise=False)
    return lambda: session.run(None, {"t0": x})


def _session(
    op: str, x: np.ndarray, weights: dict[str, np.ndarray], out: int, threads: int, **attributes: Any
) -> Callable[[], object]:
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *weights], ["y"], **attributes)],
        op,
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", out, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    session = _load(graph, threads)
    return lambda: session.run(None, {"x": x})


def _load(graph: onnx.GraphProto, threads: int, optimise: bool = True) -> onnxruntime.InferenceSession:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
