"""One exported model that stands for the network at any widths.

Exporting takes seconds, and a sweep needs hundreds of widths. Widths change only the sizes of weights, and here and
there a size in the graph, so the network is exported once and resized. That this is right is not assumed: the network
is widened by real surgery and exported again, and the resized model must be the same.

Latency does not depend on the values of weights, so they are filled in by the runtime: a model of any size is a few
kilobytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from energysplit.errors import CheckFailed
from energysplit.graph import Network
from energysplit.graph.copied import copied
from energysplit.measure.units import assign
from energysplit.output.onnx_export import export_model

_BIAS = 0.01
_SMALL = 16
"""Constants of at most so many numbers, whose size does not vary, keep their values: a resizing's factors are some."""


@dataclass(frozen=True)
class Tensor:
    """A weight of the exported model: its sizes as functions of the network's, by name of what they follow.

    sizes: one per dimension, or, of a shape that stands in the graph, one per entry: a number, or what it
    is equal to: (parameter, dimension), (operation, "in" | "out" | "elements"), or (operation, "out", divisor).
    """

    name: str
    sizes: tuple[Any, ...]


@dataclass(frozen=True)
class Template:
    """An exported network whose widths are still free.

    model: the exported graph, its nodes named after the operations: `u7.31` is node 31, of operation 7. units: names
    of the priced operations, in order. net: the network that was exported.
    """

    net: Network
    model: Any
    units: tuple[str, ...]
    tensors: tuple[Tensor, ...]

    @classmethod
    def of(cls, net: Network) -> Template:
        """The template of a network, checked against a second export at other widths.

        Raises:
            CheckFailed: the resized model is not the one the exporter makes at these widths, or the export failed.
            InputError: the model does not fit one ONNX file, or packages are missing.
        """
        from energysplit.surgery import split

        template = cls._of(net)
        # By another number of channels each, so that what follows one group is not taken to follow another.
        growth = {
            name: list(range(min(group.channels, 1 + place)))
            for place, (name, group) in enumerate(net.groups.items())
            if group.splittable
        }
        if growth:
            wider = split(net, growth)
            other = cls._of(wider)
            template = template._corrected(wider.widths, other)
            if template.shapes(wider.widths) != other.shapes(wider.widths) or (
                template.nodes(wider.widths) != other.nodes(wider.widths)
            ):
                raise CheckFailed(
                    f"{type(net.module).__name__}: the exported model can't be resized: the exporter makes another "
                    "graph at other widths, so no table can be measured for it; please report this network"
                )
        return template

    @classmethod
    def _of(cls, net: Network) -> Template:
        model = export_model(_distinct(net))
        names = assign(net, model.graph.node)
        units = tuple(net.operations())
        owner = _rename(model, [units.index(name) for name in names])
        tensors = tuple(_tensor(net, units, owner, initializer) for initializer in model.graph.initializer)
        return cls(net, model, units, tensors)

    def _corrected(self, widths: Mapping[str, int], other: Template) -> Template:
        """The template, with sizes that only happened to equal one that varies, or vary in another way, put right.

        Args:
            widths: of the other template's network.
            other: the template of the network at these widths.
        """
        before, expected, found = self.shapes(self.net.widths), self.shapes(widths), other.shapes(widths)
        if [name for name, _ in expected] != [name for name, _ in found]:
            return self
        ratios = _ratios(self.net, widths)
        tensors = []
        for tensor, (_, old), (_, wrong), (_, right) in zip(self.tensors, before, expected, found, strict=True):
            sizes = tensor.sizes
            if wrong != right and len(sizes) == len(right):
                sizes = tuple(
                    entry if a == b else size if size == b else ratios.get((size, b), entry)
                    for entry, size, a, b in zip(sizes, old, wrong, right, strict=True)
                )
            tensors.append(replace(tensor, sizes=sizes))
        return replace(self, tensors=tuple(tensors))

    def shapes(self, widths: Mapping[str, int]) -> list[tuple[str, tuple[int, ...]]]:
        """(Name, sizes) of every weight at these widths; of a shape in the graph, its entries."""
        cases = self.net.operations(widths)
        parameters = _shapes_at(self.net, widths)
        return [(tensor.name, _sizes(tensor, cases, parameters)) for tensor in self.tensors]

    def nodes(self, widths: Mapping[str, int]) -> list[Any]:
        """The graph's nodes at these widths: a depthwise convolution has as many groups as channels."""
        cases = list(self.net.operations(widths).values())
        result = []
        for node in self.model.graph.node:
            made = type(node)()
            made.CopyFrom(node)
            for attribute in made.attribute:
                if attribute.name == "group" and attribute.i > 1:
                    attribute.i = cases[int(node.name[1:].partition(".")[0])].groups
            result.append(made)
        return result

    def at(self, widths: Mapping[str, int], *, filled: bool = True) -> bytes:
        """The ONNX model at these widths.

        Args:
            widths: by group; groups left out keep theirs.
            filled: whether weights are filled in by the runtime; converters need them in the file.
        """
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        result = onnx.ModelProto()
        result.CopyFrom(self.model)
        kept, nodes = [], []
        sizes = dict(self.shapes(widths))
        for initializer in self.model.graph.initializer:
            name, new = initializer.name, sizes[initializer.name]
            old = numpy_helper.to_array(initializer)
            if initializer.data_type != TensorProto.FLOAT:
                array = np.array(new, old.dtype).reshape(old.shape) if old.ndim == 1 else old
                kept.append(numpy_helper.from_array(array, name))
            elif old.size == 1 or (old.size <= _SMALL and new == old.shape):  # perhaps no weight but a setting
                kept.append(initializer)
            elif filled:
                kept.append(numpy_helper.from_array(np.array(new, np.int64), f"{name}.shape"))
                value = helper.make_tensor("value", TensorProto.FLOAT, [1], [_fill(new)])
                nodes.append(
                    helper.make_node("ConstantOfShape", [f"{name}.shape"], [name], f"{name}.fill", value=value)
                )
            else:
                kept.append(numpy_helper.from_array(np.full(new, _fill(new), np.float32), name))
        nodes += self.nodes(widths)
        del result.graph.initializer[:], result.graph.node[:]
        result.graph.initializer.extend(kept)
        result.graph.node.extend(nodes)
        return result.SerializeToString()


def _distinct(net: Network) -> Network:
    """The network with random weights: of equal ones, such as those of new batch norms, the exporter keeps one."""
    module = copied(net.module)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5, generator=generator)
    return net.rewidened(module, {})


def _ratios(net: Network, widths: Mapping[str, int]) -> dict[tuple[int, int], tuple[str, str, int]]:
    """(Size as exported, at these widths) -> an operation whose channels are a multiple of it, and which."""
    found: dict[tuple[int, int], tuple[str, str, int]] = {}
    wider = net.operations(widths)
    for name, case in net.operations().items():
        after = wider[name].out_channels
        for divisor in range(1, case.out_channels + 1):
            if case.out_channels % divisor == after % divisor == 0 and case.out_channels != after:
                found.setdefault((case.out_channels // divisor, after // divisor), (name, "out", divisor))
    return found


def _fill(sizes: tuple[int, ...]) -> float:
    """A weight's value that keeps activations near one, far from numbers that are slow."""
    return _BIAS if len(sizes) == 1 else 1.0 / max(1, int(np.prod(sizes[1:])))


def _rename(model: Any, owner: list[int]) -> dict[str, int]:
    """Name nodes and values after the operations they belong to, in place; weight -> the operation that reads it."""
    new: dict[str, str] = {}
    reader: dict[str, int] = {}
    weights = {initializer.name for initializer in model.graph.initializer}
    for place, (node, unit) in enumerate(zip(model.graph.node, owner, strict=True)):
        node.name = f"u{unit}.{place}"
        for position, value in enumerate(node.input):
            if value in weights:
                reader.setdefault(value, unit)
            node.input[position] = new.get(value, value)
        for position, value in enumerate(node.output):
            if value:
                new[value] = node.output[position] = node.name if position == 0 else f"{node.name}.{position}"
        node.ClearField("metadata_props")
    for output in model.graph.output:
        output.name = new.get(output.name, output.name)
    del model.graph.value_info[:]
    del model.metadata_props[:]
    return reader


def _shapes_at(net: Network, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Parameter or buffer -> its sizes at these widths."""
    state = net.module.state_dict(keep_vars=True)
    first: dict[int, str] = {}  # of the names of a shared tensor, the one that slots have
    names = {name: first.setdefault(id(tensor), name) for name, tensor in state.items()}
    shapes = {name: list(state[name].shape) for name in first.values()}
    full = {**net.widths, **widths}
    for slot in net.slots:
        if slot.tensor in shapes:
            gain = (full[slot.group] - net.widths[slot.group]) * slot.span.multiple
            shapes[slot.tensor][slot.span.dim] += gain
    return {name: tuple(shapes[one]) for name, one in names.items()}


def _tensor(net: Network, units: tuple[str, ...], reader: Mapping[str, int], initializer: Any) -> Tensor:
    """How a weight's sizes follow the network's."""
    from onnx import TensorProto, numpy_helper

    sizes = tuple(initializer.dims)
    name = initializer.name
    unit = units[reader[name]] if name in reader else None
    cases = net.operations()
    if initializer.data_type != TensorProto.FLOAT:
        values = numpy_helper.to_array(initializer)
        if values.ndim != 1 or unit is None:
            return Tensor(name, tuple(int(v) for v in values.flatten()))
        return Tensor(name, tuple(_entry(int(value), unit, cases[unit]) for value in values))
    if name in net.module.state_dict() and tuple(net.module.state_dict()[name].shape) == sizes:
        return Tensor(name, tuple((name, dim) for dim in range(len(sizes))))
    if unit is None or int(np.prod(sizes)) == 1:
        return Tensor(name, sizes)
    case = cases[unit]
    if len(sizes) == 1:
        return Tensor(name, ((unit, "out"),) if sizes[0] == case.out_channels else sizes)
    if len(sizes) == 2 and sizes == (case.in_channels, case.out_channels):
        return Tensor(name, ((unit, "in"), (unit, "out")))
    ones = tuple((unit, "out") if size == case.out_channels and size > 1 else size for size in sizes)
    return Tensor(name, ones if sum(size > 1 for size in sizes) == 1 else sizes)


def _entry(value: int, unit: str, case: Any) -> Any:
    """An entry of a shape in the graph: a number, or what it follows."""
    if value == _elements(case) and value > 1:
        return unit, "elements"
    return (unit, "out") if value == case.out_channels and value > 1 else value


def _elements(case: Any) -> int:
    height, width = case.out_size
    return int(case.out_channels * height * width)


def _sizes(tensor: Tensor, cases: Mapping[str, Any], parameters: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    def size(entry: Any) -> int:
        if isinstance(entry, int):
            return entry
        name, what, *divisor = entry
        if isinstance(what, int):
            return parameters[name][what]
        case = cases[name]
        size = {"in": case.in_channels, "out": case.out_channels, "elements": _elements(case)}[what]
        return size // divisor[0] if divisor else size

    return tuple(size(entry) for entry in tensor.sizes)
