"""One exported model at any widths is what the exporter makes of networks really split; and whose nodes are whose."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import graph_cases
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import energysplit as es
from energysplit import models
from energysplit.errors import CheckFailed
from energysplit.measure.attribution import units_of
from energysplit.measure.device_run import runs_of
from energysplit.measure.template import Template
from energysplit.output.onnx_export import export_model


class Shuffled(nn.Module):
    """Half of the channels go through a depthwise convolution, then all are shuffled; as in ShuffleNetV2."""

    def __init__(self, width: int = 8, other: int = 12) -> None:
        super().__init__()
        self.stem, self.own = nn.Conv2d(3, width, 3), nn.Conv2d(width // 2, width // 2, 3, padding=1, groups=width // 2)
        self.next, self.last, self.head = nn.Conv2d(width, other, 1), nn.Conv2d(other // 2, 3, 1), nn.Linear(3, 5)

    @staticmethod
    def shuffle(x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).chunk(2, 1)
        x = torch.relu(self.next(self.shuffle(torch.cat([a, self.own(b)], 1))))
        a, b = self.shuffle(x).chunk(2, 1)
        return self.head(self.last(a + b).mean((2, 3)))


NETS = {
    "mobilenet": lambda: models.build("mobilenet_v1_cifar", widths=[4, 6, 8, 8, 9], blocks=3),
    "resnet": lambda: models.build("resnet_cifar", trunk=[6, 8], blocks=[1, 1]),
    "squeeze-excite": graph_cases.SqueezeExcite,
    "concatenated": graph_cases.Dense,
    "branches": graph_cases.Branches,  # a resizing whose factors are as many as there are channels
    "shuffled": Shuffled,
}


def traced(module: nn.Module) -> es.Network:
    return es.trace(module.eval(), torch.zeros(1, 3, 8, 8))


def grown(net: es.Network) -> es.Network:
    """The network really split, other groups by other numbers than the template's own check does."""
    return es.split(
        net,
        {
            name: list(range(min(group.channels, 2 + 2 * place)))
            for place, (name, group) in enumerate(net.groups.items())
            if group.splittable
        },
    )


def ran(data: bytes, folder) -> tuple[list[np.ndarray], list[tuple[str, str]]]:
    """Outputs, and (name, operator) of the nodes in the order they ran."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: np.ones((1, 3, 8, 8), np.float32)})
    return outputs, [(name, kind) for name, kind, _ in runs_of(session.end_profiling())[-1]]


def exported(net: es.Network) -> onnx.ModelProto:
    """What the exporter makes of a network; no two weights equal, as after training."""
    module = copy.deepcopy(net.module)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand_like(tensor))
    return export_model(net.rewidened(module, {}))


@dataclass(frozen=True)
class Pair:
    """A template, its network really split, and what the exporter makes of that."""

    template: Template
    wider: es.Network
    own: onnx.ModelProto


@pytest.fixture(scope="module", params=NETS)
def pair(request: pytest.FixtureRequest) -> Pair:
    torch.manual_seed(0)
    template = Template.of(traced(NETS[request.param]()))
    wider = grown(template.net)
    return Pair(template, wider, exported(wider))


def test_a_resized_model_runs_as_the_exporters_own(pair: Pair, tmp_path) -> None:
    outputs, nodes = ran(pair.template.at(pair.wider.widths), tmp_path)
    expected, own = ran(pair.own.SerializeToString(), tmp_path)
    assert [output.shape for output in outputs] == [output.shape for output in expected]
    assert sorted(kind for _, kind in nodes) == sorted(kind for _, kind in own)
    assert all(np.isfinite(output).all() for output in outputs)


def test_every_weight_has_the_exporters_size(pair: Pair) -> None:
    made = onnx.load_model_from_string(pair.template.at(pair.wider.widths, filled=False))

    def sizes(model):
        return sorted(tuple(tensor.dims) for tensor in model.graph.initializer)

    def shapes(model):
        tensors = (tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT64)
        return sorted(tuple(onnx.numpy_helper.to_array(tensor).flatten().tolist()) for tensor in tensors)

    assert sizes(made) == sizes(pair.own)
    assert shapes(made) == shapes(pair.own)


def test_weights_filled_in_by_the_runtime_are_those_in_the_file(pair: Pair, tmp_path) -> None:
    filled, whole = (pair.template.at(pair.wider.widths, filled=filled) for filled in (True, False))
    assert len(filled) < len(whole) or len(whole) < 20_000
    (first, nodes), (second, others) = ran(filled, tmp_path), ran(whole, tmp_path)
    assert sorted(kind for _, kind in nodes) == sorted(kind for _, kind in others)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_same_widths_give_the_same_bytes(pair: Pair) -> None:
    assert pair.template.at({}) == pair.template.at(pair.template.net.widths)


KINDS = {
    "Conv": ("conv2d", "conv1d", "batch_norm"),  # ONNX Runtime makes a convolution of a batch norm in blocked layout
    "FusedConv": ("conv2d", "conv1d"),
    "Gemm": ("linear",),
    "FusedGemm": ("linear",),
    "MatMul": ("linear",),
    "BatchNormalization": ("batch_norm",),
    "MaxPool": ("max_pool",),
    "AveragePool": ("average_pool",),
    "GlobalAveragePool": ("average_pool",),
    "ReduceMean": ("average_pool",),
    "Add": ("add", "linear"),
    "Sub": ("add",),
    "Concat": ("move",),
    "Split": ("move",),
    "Resize": ("move",),
    "DepthToSpace": ("move",),
    "Transpose": ("move",),
    "Pad": ("conv2d",),
    "QuickGelu": ("conv2d", "conv1d", "linear", "activation"),
    "Gelu": ("conv2d", "conv1d", "linear", "activation"),
    "Tanh": ("conv2d", "conv1d", "linear", "activation"),
    "Sigmoid": ("conv2d", "conv1d", "linear", "activation"),
    "Relu": ("conv2d", "conv1d", "linear", "activation", "add"),
    "Mul": ("multiply",),
}


def test_every_node_that_runs_belongs_to_an_operation_of_its_kind(pair: Pair, tmp_path) -> None:
    template, net = pair.template, pair.template.net
    _, nodes = ran(template.at({}), tmp_path)
    cases = list(net.operations().items())
    assert [name for name, _ in cases] == list(template.units)
    owners = [cases[unit] for unit in units_of([name for name, _ in nodes])]
    checked = set()
    for (node, kind), (name, case) in zip(nodes, owners, strict=True):
        if kind in KINDS:
            assert case.op in KINDS[kind], f"{node} ({kind}) belongs to {name}"
            checked.add(name)
        else:
            assert kind in ("ReorderInput", "ReorderOutput", "Reshape", "Flatten", "Squeeze", "Unsqueeze"), kind
        if kind in ("QuickGelu", "Gelu", "Tanh", "Sigmoid"):
            assert case.activation is not None
    # Every layer runs as itself.
    assert {name for name, case in cases if case.op in ("conv2d", "linear")} <= checked


class Twice(nn.Module):
    """Sizes that are equal as exported and different at other widths: the exporter keeps one of them, then two."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(Shuffled.shuffle(torch.tanh(self.b(Shuffled.shuffle(torch.tanh(self.a(x)))))))


def test_a_network_that_can_not_be_resized_is_refused() -> None:
    said = "Twice: the exported model can't be resized: .* another graph"
    with pytest.raises(CheckFailed, match=said):
        Template.of(traced(Twice()))


def test_a_network_without_groups_to_split_is_as_it_is(tmp_path) -> None:
    template = Template.of(traced(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())))
    outputs, _ = ran(template.at({}), tmp_path)
    assert outputs[0].shape == (1, 144)


def test_a_weight_that_two_modules_share_has_one_size() -> None:
    template = Template.of(traced(graph_cases.Functional()))
    shared = [sizes for name, sizes in template.shapes({"first": 6}) if name in ("second.weight", "third.weight")]
    assert set(shared) == {(6, 6, 3, 3)}


def test_equal_weights_stay_apart() -> None:
    # New batch norms are all ones and zeros; the exporter would keep one of each size.
    layers = nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)
    template = Template.of(traced(nn.Sequential(*layers)))
    names = [name for name, _ in template.shapes({})]
    assert sum("weight" in name for name in names) >= 2
