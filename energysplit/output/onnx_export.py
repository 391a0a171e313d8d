"""Exports a network to one ONNX file and shows that ONNX Runtime computes the same before the file appears.

The exporter folds batch norms and rewrites layers, so its result is a new program: it is run on random images, at a
batch size other than the traced one and at batch size 1, and compared with torch. The parity found is kept in the
file's own metadata, where `read_parity` finds it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from energysplit.errors import CheckFailed, CheckpointError, InputError, MissingExtra
from energysplit.graph import Network
from energysplit.graph.copied import copied
from energysplit.hardware.detect import package_version
from energysplit.output.atomic import write_bytes
from energysplit.output.parity import OnnxParity
from energysplit.plain_data import read_file
from energysplit.types import check_traced

_METADATA_KEY = "energysplit.parity"
# Protocol buffers end at 2 GiB; the rest of the file needs some of it.
_LARGEST_BYTES = (1 << 31) - (1 << 24)
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(net: Network, path: Path | str, *, tolerance: float = 1e-4, batch: int = 4, seed: int = 0) -> Path:
    """The path of the exported file; see `export_with_parity`."""
    return export_with_parity(net, path, tolerance=tolerance, batch=batch, seed=seed).path


def export_with_parity(
    net: Network, path: Path | str, *, tolerance: float = 1e-4, batch: int = 4, seed: int = 0
) -> OnnxParity:
    """The parity of the file at `path`, which holds the network in eval mode and float32, for any batch size.

    Args:
        net: network; it is not changed.
        path: file to write, atomically; its folder must exist.
        tolerance: largest allowed difference of an output, relative to the largest |output|.
        batch: images compared at once.
        seed: of the random inputs: standard normal, or zeros and ones where whole numbers are taken.

    Returns:
        What was measured. Input and output of the model are named "input" and "output".

    Raises:
        CheckFailed: ONNX Runtime computes something else, or the exporter failed; no file is written, and an older
            file at `path` stays as it was.
        InputError: `batch` is below 1, `path` is a folder or in one that is not there, the network does not fit one
            ONNX file, or a package it takes is missing.
    """
    check_traced(net)
    path = Path(path)
    if batch < 1:
        raise InputError(f"batch {batch} given, at least 1 expected")
    if path.is_dir() or not path.absolute().parent.is_dir():
        what = "is a folder" if path.is_dir() else f"can't be written: there is no folder {path.parent}"
        raise InputError(f"{path} {what}; expected: a file's name, such as model.onnx, in a folder that exists")
    _require_packages()
    module = _float32_copy(net.module)
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if size > _LARGEST_BYTES:
        raise InputError(f"the network holds {size / 2**30:.2f} GiB; one ONNX file holds 2 GiB at most")
    images = _drawn(net, batch, seed)
    data, opset = _export(module, images)
    absolute, relative = compare(module, data, images)
    parity = OnnxParity(
        path=path,
        absolute=absolute,
        relative=relative,
        tolerance=tolerance,
        images=batch,
        opset=opset,
        runtime=f"onnxruntime {package_version('onnxruntime')}",
        torch=torch.__version__,
    )
    # Not `>`: a NaN must fail too.
    if not relative <= tolerance:
        raise CheckFailed(
            f"{path} was not written: ONNX Runtime's outputs differ from torch's by {relative:.2e} of the largest "
            f"output, {tolerance:.2e} allowed ({parity.runtime}, opset {opset}); if the network's outputs are finite, "
            "this is a fault of the exporter or the runtime: try another version of them"
        )
    write_bytes(path, _with_metadata(data, parity))
    return parity


def read_parity(path: Path | str) -> OnnxParity | None:
    """The parity kept in an exported file; None if the file holds none, so another program wrote it.

    Raises:
        CheckpointError: there is no such file, or it is no ONNX model.
    """
    _require_packages()
    import onnx
    from google.protobuf.message import DecodeError

    try:
        # From a string: a model in a file may name other files that its weights are read from.
        model = onnx.load_model_from_string(read_file(Path(path)))
        found = {entry.key: entry.value for entry in model.metadata_props}
        if _METADATA_KEY not in found:
            return None
        return OnnxParity.model_validate_json(found[_METADATA_KEY]).model_copy(update={"path": Path(path)})
    except (OSError, ValueError, DecodeError) as error:
        raise CheckpointError(f"{path} can't be read as an ONNX model: {error}; export it again") from error


def compare(module: nn.Module, data: bytes, images: Tensor) -> tuple[float, float]:
    """Largest absolute and relative difference between torch and ONNX Runtime, on all images and on the first alone.

    Args:
        module: in eval mode, float32, on the CPU.
        data: a serialised ONNX model of one input and one output.
        images: shape (images, ...), float32.

    Returns:
        Largest |difference|, and the same divided by torch's largest |output|. NaN where an output is not finite.

    Raises:
        CheckFailed: ONNX Runtime refuses the model or the images, or gives another shape.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    worst = 0.0
    with torch.inference_mode():
        expected = module(images)
    scale = expected.abs().max().item()
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        for count in dict.fromkeys((len(images), 1)):
            (output,) = session.run(None, {name: images[:count].numpy()})
            if output.shape != tuple(expected[:count].shape):
                raise CheckFailed(
                    f"ONNX Runtime gives outputs of shape {output.shape}, torch {tuple(expected[:count].shape)}"
                )
            difference = (torch.from_numpy(output) - expected[:count]).abs().max().item()
            # max() would drop a NaN in its second place.
            worst = difference if difference != difference else max(worst, difference)
            if worst != worst:
                break
    except CheckFailed:
        raise
    except Exception as error:
        # ONNX Runtime's own exceptions share no base but Exception.
        raise CheckFailed(f"ONNX Runtime does not run the exported model: {error}") from error
    if worst == 0.0 and scale == scale:
        return 0.0, 0.0
    return worst, worst / scale if scale else float("inf")


def _float32_copy(module: nn.Module) -> nn.Module:
    """A copy on the CPU, in eval mode. ONNX Runtime has no double-precision convolutions on the CPU."""
    return copied(module).to("cpu", torch.float32).eval()


def export_model(net: Network) -> Any:
    """The ONNX model as the exporter makes it, with its notes on each node, in eval mode and float32.

    Raises:
        CheckFailed: the exporter failed.
        InputError: a package it takes is missing.
    """
    _require_packages()
    return _program(_float32_copy(net.module), _drawn(net, 1))


def _drawn(net: Network, batch: int, seed: int = 0) -> Tensor:
    """Random inputs; of whole numbers only zeros and ones, which any vocabulary has."""
    generator, shape = torch.Generator().manual_seed(seed), (batch, *net.example_input.shape[1:])
    if net.example_input.is_floating_point():
        return torch.randn(shape, generator=generator)
    return torch.randint(2, shape, generator=generator, dtype=net.example_input.dtype)


def _export(module: nn.Module, images: Tensor) -> tuple[bytes, int]:
    """The serialised ONNX model and its opset."""
    model = _program(module, images)
    # Stack traces of this machine's files: no use to a reader, and different on every machine.
    for part in (model.graph, *model.functions):
        for item in (*part.node, *part.value_info):
            item.ClearField("metadata_props")
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return model.SerializeToString(), opset


def _program(module: nn.Module, images: Tensor) -> Any:
    """The exporter's ONNX model, for any batch size."""
    # torch.export takes sizes 0 and 1 for constants, so a dynamic batch is traced at 2.
    example = torch.cat([images, images])[:2]
    with _quiet() as chatter:
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=["input"],
                output_names=["output"],
                external_data=False,
                verbose=False,
            )
            assert program is not None
            return program.model_proto
        except OSError:  # of the disk, which is no fault of the exporter
            raise
        except Exception as error:
            # The exporter's errors share no base but Exception; its own words are all there is to go by.
            detail = f"{error}\n{chatter.getvalue()}".strip().splitlines()
            raise CheckFailed(f"the ONNX exporter of torch {torch.__version__} failed: {detail[0]}") from error


def _with_metadata(data: bytes, parity: OnnxParity) -> bytes:
    """The model with its parity in its metadata, without the folder it was written to."""
    import onnx

    model = onnx.load_model_from_string(data)
    entry = model.metadata_props.add()
    entry.key = _METADATA_KEY
    entry.value = parity.model_copy(update={"path": Path(parity.path.name)}).model_dump_json()
    return model.SerializeToString()


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Keeps progress, warnings and log lines of the exporter off the terminal; they are collected instead."""
    chatter = io.StringIO()
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            contextlib.redirect_stdout(chatter),
            contextlib.redirect_stderr(chatter),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield chatter
    finally:
        logging.disable(disabled)


def _require_packages() -> None:
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise MissingExtra(
            f"ONNX export needs {', '.join(missing)}, not installed here; "
            "install energysplit again with its dependencies, or set export.onnx = false"
        )
