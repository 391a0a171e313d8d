"""A network on disk as two files: `network.json` says how to build it, `weights.safetensors` holds its numbers.

Reading a checkpoint runs no code from it: the seed comes from a registered builder or from the caller, and is widened
to the stated widths. Files from strangers are expected: everything is checked before memory is taken for it, and what
is taken is bounded by the size of the weights file and of one example input.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from energysplit.errors import CheckpointError, EnergysplitError, InputError, first_complaint
from energysplit.graph import Network, trace
from energysplit.graph.copied import copied
from energysplit.graph.edit import resized, shapes_at
from energysplit.graph.trace import evaluating
from energysplit.hardware.detect import package_version
from energysplit.models import built_in, rebuild, shapes
from energysplit.output.atomic import atomic_folder, write_text
from energysplit.output.tensors import load_tensors, save_tensors
from energysplit.plain_data import checksum, read_json, sealed
from energysplit.types import check_traced

FORMAT_VERSION = 1
NETWORK_FILE = "network.json"
WEIGHTS_FILE = "weights.safetensors"

# One example input of 16 MiB in float32; loading runs the seed on zeros of this shape.
_LARGEST_EXAMPLE = 1 << 22

_WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)  # masks, counters
_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, *_WHOLE)

# A few outputs on fixed inputs, by which a model whose code has changed is found out: how many, and how far they may
# differ of the largest, between machines and devices.
_OUTPUTS = 16
_TOLERANCE = {torch.float16: 0.05, torch.bfloat16: 0.05}
_TOLERANCE_ELSE = 0.01

_Positive = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Builder(_Section):
    """A registered model name and its arguments."""

    name: str
    args: dict[str, Any]


class _Example(_Section):
    """Shape and dtype of the example input."""

    shape: list[_Positive] = Field(min_length=1)
    dtype: Literal["float16", "bfloat16", "float32", "float64", "int32", "int64"]


class _Description(_Section):
    """`network.json`. outputs: see `_outputs`; None in older files. checksum: SHA-256 of everything else in it."""

    format_version: Literal[1]
    builder: _Builder | None
    widths: dict[str, _Positive]
    example_input: _Example
    versions: dict[str, str]
    weights_sha256: str
    outputs: list[float] | None = None
    checksum: str


def save(net: Network, folder: Path | str) -> Path:
    """The folder, holding the network; an earlier checkpoint in it is replaced atomically (see `atomic_folder`).

    Raises:
        InputError: the folder is a file or holds other files, which would be lost, or the network can't be written as
            plain data.
    """
    check_traced(net)
    folder = Path(folder).resolve()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; a checkpoint is a folder, give a new one")
    others = (
        sorted({entry.name for entry in folder.iterdir()} - {NETWORK_FILE, WEIGHTS_FILE}) if folder.exists() else []
    )
    if others:
        raise InputError(f"{folder} holds other files ({', '.join(others[:3])}); give a new folder for the checkpoint")
    with atomic_folder(folder) as partial:
        write(net, partial)
    return folder


def write(net: Network, folder: Path | str) -> str:
    """Write the two files into an existing folder, which the caller makes atomic together with other files.

    Returns:
        SHA-256 of `weights.safetensors`.

    Raises:
        InputError: the builder's arguments are not JSON, or the state holds something else than tensors, or of a type
            that is not read back.
    """
    folder = Path(folder)
    state = _state(net)
    if unknown := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise InputError(f"{unknown[0]!r} of the model's state is a {type(state[unknown[0]]).__name__}, not a tensor")
    if strange := [name for name, value in state.items() if value.dtype not in _TYPES]:
        raise InputError(
            f"{strange[0]!r} of the model's state is {state[strange[0]].dtype}, which a checkpoint can't hold; one of "
            f"{', '.join(str(dtype).removeprefix('torch.') for dtype in _TYPES)} expected"
        )
    digest = save_tensors(folder / WEIGHTS_FILE, state)
    builder = getattr(net.module, "energysplit_builder", None)
    found = {name: package_version(name) for name in ("energysplit", "torch")}
    description: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "builder": builder,
        "widths": net.widths,
        "example_input": {
            "shape": list(net.example_input.shape),
            "dtype": str(net.example_input.dtype).removeprefix("torch."),
        },
        "versions": {name: version or "not installed" for name, version in found.items()},
        "weights_sha256": digest,
        "outputs": _outputs(net),
    }
    try:
        # Read back, so that what is refused when loading is refused when saving.
        text = json.dumps(description, allow_nan=False)
        description = json.loads(text)
        _Description.model_validate({**description, "checksum": ""})
    except (TypeError, ValueError) as error:
        raise InputError(f"the network can't be written as JSON: {error}; builder is {builder!r}") from error
    write_text(folder / NETWORK_FILE, sealed(description))
    return digest


def load(folder: Path | str, model: nn.Module | None = None) -> Network:
    """The network of a checkpoint, on the CPU, in eval mode, in the saved dtypes.

    Args:
        folder: written by `save`.
        model: a freshly built seed, needed if the network was not built from a registered model; it is copied.

    Returns:
        The network, with the saved widths and weights. Torch's random state is left as it was.

    Raises:
        CheckpointError: a file is missing, damaged, or does not fit the other or the model; the message names it.
    """
    folder = Path(folder)
    file = folder / NETWORK_FILE
    description = _read(file)
    tensors, _ = load_tensors(folder / WEIGHTS_FILE, description.weights_sha256)
    _check_types(tensors, folder / WEIGHTS_FILE)
    example = description.example_input
    if prod(example.shape) > _LARGEST_EXAMPLE:
        raise CheckpointError(f"{file}: an example input of shape {example.shape} is too large to be one")
    x = torch.zeros(example.shape, dtype=getattr(torch, example.dtype))
    seed = _seed(description, tensors, file) if model is None else copied(model)
    try:
        net = trace(seed.to("cpu", x.dtype if x.is_floating_point() else None), x)
    except InputError as error:
        raise CheckpointError(f"{file}: the seed can't be traced: {error}") from error
    _check_widths(net, description.widths, tensors, folder)
    net = resized(net, description.widths)
    try:
        _fill(net.module, tensors)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{folder / WEIGHTS_FILE} does not fit the network: {error}") from error
    net.module.eval()
    _check_outputs(net, description.outputs, folder)
    return net


def check_whole(folder: Path | str) -> None:
    """Check that both files are as they were written, whatever model they belong to.

    Raises:
        CheckpointError: one is missing or damaged.
    """
    description = _read(Path(folder) / NETWORK_FILE)
    load_tensors(Path(folder) / WEIGHTS_FILE, description.weights_sha256)


def _read(file: Path) -> _Description:
    """`network.json`, checked for version, keys, types and damage."""
    try:
        raw = read_json(file)
    except OSError as error:
        raise CheckpointError(
            f"{file} can't be read: {error.strerror}; expected a folder that energysplit.save wrote"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{file} is damaged: it is no JSON ({error}); go back to the stage before it") from error
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{file}: checkpoint format {version!r} given, {FORMAT_VERSION} expected; "
            "it is damaged, or another version of energysplit wrote it"
        )
    try:
        description = _Description.model_validate(raw)
    except ValidationError as error:
        raise CheckpointError(f"{file}: {first_complaint(error)}; the file is damaged") from error
    if checksum({key: value for key, value in raw.items() if key != "checksum"}) != description.checksum:
        raise CheckpointError(f"{file} is damaged or was edited: its content does not match its checksum")
    return description


def _seed(description: _Description, tensors: Mapping[str, Tensor], file: Path) -> nn.Module:
    """The seed from its builder, built only if it is no larger than the weights."""
    builder = description.builder
    if builder is None:
        raise CheckpointError(
            f"{file}: this network was not built from a registered model; pass model= a freshly built seed"
        )
    if not built_in(builder.name):
        raise CheckpointError(
            f"{file}: builder {builder.name!r} is no registered model, nor one of torchvision's or timm's, and code "
            "that a file names is not run; pass model= a freshly built seed"
        )
    budget = sum(tensor.numel() for tensor in tensors.values())
    if any(number > max(budget, 1 << 16) for number in _integers(builder.args)):
        raise CheckpointError(f"{file}: builder arguments {builder.args} are larger than the weights")
    try:
        # Shapes first, without memory: a file may claim any size.
        if sum(shape.numel() for shape in shapes(builder.name, builder.args).values()) > budget:
            raise CheckpointError(f"{file}: the seed it describes is larger than the weights")
        with torch.random.fork_rng(devices=[]):
            return rebuild(builder.name, builder.args)
    except CheckpointError:
        raise
    except (EnergysplitError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{file}: {builder.name!r} can't be built with {builder.args}: {error}") from error


def _check_types(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Refuse types that no layer computes in."""
    for name, tensor in tensors.items():
        if tensor.dtype not in _TYPES:
            raise CheckpointError(f"{file}: tensor {name!r} is {tensor.dtype}, which no layer computes in")


def _check_widths(net: Network, widths: Mapping[str, int], tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Refuse widths and weights that do not belong to the seed or to each other, before anything is resized."""
    if widths.keys() != net.widths.keys():
        raise CheckpointError(
            f"{folder / NETWORK_FILE}: widths of groups {sorted(widths)} given, {sorted(net.widths)} expected; "
            "is model= the seed this checkpoint was grown from?"
        )
    widened = shapes_at(net, widths)
    first = _first_names(net.module)
    expected = {name: list(widened.get(first.get(name, name), tensor.shape)) for name, tensor in _state(net).items()}
    if expected.keys() != tensors.keys():
        odd = sorted(expected.keys() ^ tensors.keys())
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE}: it and the seed do not have the same tensors; "
            f"only one of them has {', '.join(odd[:5])}"
        )
    for name, shape in expected.items():
        if list(tensors[name].shape) != shape:
            raise CheckpointError(
                f"{folder / WEIGHTS_FILE}: tensor {name!r} has shape {list(tensors[name].shape)}, {shape} expected "
                f"from the widths in {NETWORK_FILE}"
            )


def _outputs(net: Network) -> list[float] | None:
    """Some of the network's outputs in eval mode on inputs that are always the same; None if they are not numbers."""
    generator, example = torch.Generator().manual_seed(0), net.example_input
    if example.is_floating_point():
        x = torch.randn(example.shape, generator=generator).to(example.dtype)
    else:
        x = torch.randint(2, example.shape, generator=generator, dtype=example.dtype)
    device = next(net.module.parameters()).device
    try:
        with torch.no_grad(), evaluating(net.module), torch.random.fork_rng(devices=[]):
            leaves = tree_leaves(net.module(x.to(device)))
            flat = torch.cat([leaf.flatten().cpu().double() for leaf in leaves if isinstance(leaf, Tensor)])
    except Exception:  # a model of the user's may refuse inputs that are no data
        return None
    flat = flat[:: max(1, len(flat) // _OUTPUTS)][:_OUTPUTS]
    return [float(f"{number:.6g}") for number in flat.tolist()] if flat.isfinite().all() else None


def _check_outputs(net: Network, saved: list[float] | None, folder: Path) -> None:
    """Refuse a model that fits the weights and computes something else than the one that was saved."""
    if saved is None:
        return
    expected, now = torch.tensor(saved), torch.tensor(_outputs(net) or [])
    same = expected.shape == now.shape
    away = float((expected - now).abs().max() / expected.abs().max().clamp_min(1e-12)) if same else float("inf")
    if away > _TOLERANCE.get(next(net.module.parameters()).dtype, _TOLERANCE_ELSE):
        raise CheckpointError(
            f"{folder}: the model computes something else than the one that was saved with these weights (its outputs "
            f"differ by {away:.2g} of the largest); was its code changed since? Use the code of then, or grow anew"
        )


def _state(net: Network) -> dict[str, Any]:
    """The module's state, with the buffers that it would not save but that run along channels."""
    state = dict(net.module.state_dict())
    for name, tensor in net.module.named_buffers():
        if name not in state and any(slot.tensor == name for slot in net.slots):
            state[name] = tensor.detach()
    return state


def _fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors in place of the module's, each in the dtype it was saved in; tied ones stay tied.

    Raises:
        ValueError: names of one tied tensor come with different numbers.
    """
    held = dict(module.named_parameters(remove_duplicate=False))
    first = _first_names(module)
    parameters = {
        name: nn.Parameter(tensors[name], requires_grad=parameter.requires_grad)
        for name, parameter in module.named_parameters()
    }
    state = module.state_dict()  # with the versions of its modules, which some of them ask for
    for name in state:
        origin = first[name] if first[name] in tensors else name
        state[name] = parameters[origin] if name in held else tensors[origin]
        if name != origin and not torch.equal(tensors[name], tensors[origin]):
            raise ValueError(f"{name!r} and {origin!r} are one tensor, but the file has two")
    module.load_state_dict(state, strict=True, assign=True)
    for name in tensors.keys() - state.keys():
        owner, _, key = name.rpartition(".")
        setattr(module.get_submodule(owner), key, tensors[name])


def _first_names(module: nn.Module) -> dict[str, str]:
    """Every name of each parameter and buffer -> its first one."""
    named = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


def _integers(value: Any) -> list[int]:
    """All integers in nested JSON."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in _integers(item)]
    return [value] if isinstance(value, int) else []
