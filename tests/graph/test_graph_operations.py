"""Everything that runs: each operation's case against one made by hand, and what is alive against a slow count."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import graph_cases
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import energysplit as es
from energysplit import models
from energysplit.types import WEIGHTLESS, LayerCase

IMAGE = 3 * 8 * 8


def traced(module: nn.Module, *shape: int) -> es.Network:
    return es.trace(module.eval(), torch.zeros(2, *(shape or (3, 8, 8))))


def weightless(op: str, channels: int, size: tuple[int, int], live: int, **more: Any) -> LayerCase:
    sizes = {"in_size": size, "out_size": size, **more}
    return LayerCase(op, channels, channels, groups=max(1, channels), live=live, **sizes)


def test_a_chain_of_fused_layers() -> None:
    net = traced(
        nn.Sequential(
            *(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
            *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10)),
        )
    )
    assert net.operations() == {
        "0": LayerCase(
            "conv2d", 3, 4, (3, 3), padding=(1, 1), in_size=(8, 8), out_size=(8, 8),
            batch_norm=True, activation="relu", live=IMAGE + 256,
        ),
        "3": weightless("max_pool", 4, (8, 8), 256 + 64, kernel=(2, 2), stride=(2, 2), out_size=(4, 4)),
        "5": LayerCase("linear", 64, 10, bias=True, live=64 + 10),
    }  # fmt: skip
    assert {name: layer.parts for name, layer in net.layers.items()} == {
        "0": ("0", "1", "2"), "3": ("3", "4"), "5": ("5",),
    }  # fmt: skip


class Residual(nn.Module):
    """A sum, and an activation that is fused to nothing: its input is no layer's output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.act, self.head = nn.ReLU(), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.act(x + self.body(x)))


def test_a_residual_sum_and_an_activation_that_is_fused_to_nothing() -> None:
    found = traced(Residual()).operations()
    assert list(found) == ["stem", "body", "add", "act", "head"]
    assert found["stem"].activation is None
    assert found["body"].live == 2 * 256  # the trunk is its input and stays for the sum
    assert found["add"] == weightless("add", 4, (8, 8), 3 * 256)
    assert found["act"] == weightless("activation", 4, (8, 8), 2 * 256, activation="relu")
    assert found["head"].live == 256 + 128


def test_squeeze_and_excite() -> None:
    found = graph_cases.network("squeeze-excite").operations()
    kinds = [case.op for case in found.values()]
    assert kinds == [
        "conv2d",
        "conv2d",
        "average_pool",
        *["conv2d"] * 2,
        "multiply",
        "conv2d",
        "average_pool",
        "linear",
    ]
    pool, _, excite, gated = list(found.values())[2:6]
    maps = 5 * 64
    assert pool == weightless("average_pool", 5, (8, 8), maps + 5, kernel=(8, 8), out_size=(1, 1))
    assert excite.activation == "sigmoid"
    assert excite.live == maps + 3 + 5, "the maps that will be multiplied are waiting"
    assert gated == weightless("multiply", 5, (8, 8), maps + 5 + maps)


def test_concatenation_copies() -> None:
    net = graph_cases.network("dense")
    found = net.operations()
    assert [(name, case.out_channels) for name, case in found.items() if case.op == "move"] == [
        ("cat", 7),
        ("cat_1", 9),
    ]
    assert found["cat"] == weightless("move", 7, (8, 8), (4 + 3 + 7) * 64)
    wider = net.operations({"a": 10})
    assert wider["cat"] == weightless("move", 14, (8, 8), (4 + 10 + 14) * 64)


def test_depthwise_convolutions_follow_their_channels() -> None:
    net = traced(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Conv2d(4, 4, 3, 2, 1, groups=4), nn.Conv2d(4, 2, 1)))
    found = net.operations({"0": 7})
    assert found["2"] == LayerCase(
        "conv2d", 7, 7, (3, 3), (2, 2), (1, 1), groups=7, in_size=(8, 8), out_size=(4, 4), bias=True, live=7 * (64 + 16)
    )
    assert found["0"].activation == "relu6"
    assert found["3"].live == 7 * 16 + 2 * 16


class Views(nn.Module):
    """What moves no data: a view of the images, dropout, identity, flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.drop, self.same = nn.Linear(IMAGE, 6), nn.Linear(6, 5), nn.Dropout(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.a(x.flatten(1)))
        return F.dropout(self.b(self.same(torch.tanh(x))), 0.1, self.training).view(-1, 5, 1).squeeze(2)


def test_what_moves_no_data_is_part_of_what_it_looks_at() -> None:
    net = traced(Views())
    assert {name: (case.op, case.activation, case.live) for name, case in net.operations().items()} == {
        "a": ("linear", "tanh", IMAGE + 6),
        "b": ("linear", None, 6 + 5),
    }
    assert net.layers["a"].parts == ("a", "drop", "tanh", "same")
    assert net.layers["b"].parts == ("b", "dropout", "view", "squeeze")


class LateView(nn.Module):
    """A view made long after what it looks at, while something else has run."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Linear(144, 7), nn.Linear(5, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))
        y = torch.relu(self.b(x)).mean((2, 3))
        return self.c(x.flatten(1)) + self.d(y)


class Halves(nn.Module):
    """Two views that are halves of what they look at."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x).chunk(2, 1)
        return self.b(a) + b


class LateSize(nn.Module):
    """The images' size is asked for at the end, which keeps no image alive."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)).mean((2, 3)).view(x.size(0), -1)


class ImageView(nn.Module):
    """Views of views of the images, read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(IMAGE, 8), nn.Linear(IMAGE, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = x.flatten(1)
        return torch.relu(self.a(y)) * torch.sigmoid(self.b(y.view(-1, IMAGE)))


def counted_live(net: es.Network) -> dict[str, int]:
    """What is alive at each operation, by running the network and counting references to its tensors.

    Independent of `lifetimes`: what is a view is found from the memory that tensors really share.
    """
    unit = {part: name for name, layer in net.layers.items() for part in layer.parts}
    graph = net.ops[0].node.graph
    image = next(node for node in graph.nodes if node.op == "placeholder")
    results: dict[Any, Any] = {image: net.example_input}
    owner = {image: "images"}
    images = len(net.example_input)

    def tensors(value: Any) -> list[Tensor]:
        return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]

    def memory(value: Any) -> set[int]:
        return {tensor.untyped_storage().data_ptr() for tensor in tensors(value)}

    size = {"images": net.example_input.numel() // images}
    readers: dict[str, set[str]] = defaultdict(set)
    done: dict[str, int] = {}
    for position, op in enumerate(net.ops):
        if op.node is image:
            continue
        with torch.no_grad():
            result = results[op.node] = op.run(net.module, results)
        name, sources = unit.get(op.name), [source for source in op.node.all_input_nodes if source in owner]
        if name is None:
            if tensors(result) and sources:  # a view of the images
                owner[op.node] = owner[sources[0]]
            continue
        owner[op.node] = name
        for source in sources:
            if owner[source] != name:
                readers[owner[source]].add(name)
        if name not in done or not memory(result) <= set().union(*(memory(results[source]) for source in sources)):
            done[name], size[name] = position, sum(tensor.numel() for tensor in tensors(result)) // images
    for node in graph.nodes:
        if node.op == "output":
            for source in node.all_input_nodes:
                readers[owner[source]].add("outside")
    alive, live = {"images"}, {}
    for name in sorted(done, key=done.__getitem__):
        alive.add(name)
        live[name] = sum(size[value] for value in alive)
        for waiting in readers.values():
            waiting.discard(name)
        alive = {value for value in alive if readers[value]}
    return live


def live_of(net: es.Network) -> dict[str, int]:
    return {name: case.live for name, case in net.operations().items()}


OWN = {"late view": LateView, "halves": Halves, "late size": LateSize, "view of images": ImageView, "views": Views}


@pytest.mark.parametrize("kind", OWN)
def test_views_share_memory(kind: str) -> None:
    net = traced(OWN[kind]())
    assert live_of(net) == counted_live(net)


def test_a_layer_that_reads_a_view_of_the_images_has_them_alive() -> None:
    net = traced(models.build("mlp"), 1, 8, 8)
    assert next(iter(live_of(net).values())) == 64 + net.operations()["blocks.0.linear"].out_channels


@pytest.mark.parametrize("kind", graph_cases.KINDS)
def test_what_is_alive_in_every_kind_of_graph(kind: str) -> None:
    net = graph_cases.network(kind)
    assert live_of(net) == counted_live(net)
    wider = es.split(net, {name: [0] for name, group in net.groups.items() if group.splittable})
    again = es.trace(wider.module, net.example_input)
    assert net.operations(wider.widths) == wider.operations()
    assert wider.operations() == again.operations()
    assert live_of(again) == counted_live(again)


STOCK = {
    "mobilenet_v2": (lambda: models.build("mobilenet_v2", width_multiplier=0.25), 32),
    "resnet_cifar": (lambda: models.build("resnet_cifar", channels=8), 32),
    "mobilenet_v3_small": (lambda: torchvision.models.mobilenet_v3_small(num_classes=10), 64),
    "shufflenet": (lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=10), 64),
    "squeezenet": (lambda: torchvision.models.squeezenet1_1(num_classes=10), 64),
}


@pytest.mark.parametrize("name", STOCK)
def test_stock_networks_at_traced_and_at_other_widths(name: str) -> None:
    build, size = STOCK[name]
    net = traced(build(), 3, size, size)
    assert live_of(net) == counted_live(net)
    chosen = {
        group: list(range(min(found.channels, 1 + place % 4)))
        for place, (group, found) in enumerate(net.groups.items())
        if found.splittable
    }
    wider = es.split(net, chosen)
    again = es.trace(wider.module, net.example_input)
    assert again.widths == wider.widths
    assert list(again.operations()) == list(net.operations())
    assert net.operations(wider.widths) == again.operations()
    assert live_of(again) == counted_live(again)


@pytest.mark.parametrize("kind", graph_cases.KINDS)
def test_layers_with_weights_are_the_same_in_both_lists(kind: str) -> None:
    net = graph_cases.network(kind)
    cases, operations = net.cases(), net.operations()
    assert not any(case.op in WEIGHTLESS for case in cases.values())
    assert not any(case.live for case in cases.values())
    weighted = {name: case for name, case in operations.items() if case.op not in WEIGHTLESS}
    loose = {name: case for name, case in cases.items() if name not in weighted}
    assert all(case.op == "other" and not case.macs for case in loose.values()), "parameters outside layers"
    assert all(not net.layers[name].parts for name in loose)
    without_live = {name: LayerCase(**{**vars(case), "live": 0}) for name, case in weighted.items()}
    assert without_live == {name: case for name, case in cases.items() if name not in loose}
    macs = es.cost_provider("macs")
    total = sum(macs.price(case).value for case in weighted.values())
    assert total == es.price(net, "macs").value
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.module(net.example_input)
    assert total == counter.get_total_flops() / 2 / len(net.example_input)
    priced = sum(es.cost_provider("params").price(case).value for case in cases.values())
    assert priced == sum(parameter.numel() for parameter in net.module.parameters())


def test_a_pooling_s_window_is_in_its_case() -> None:
    net = traced(
        nn.Sequential(
            *(nn.Conv2d(3, 4, 1), nn.AvgPool2d((2, 1), stride=(2, 1)), nn.MaxPool2d(3, 1, 1)),
            *(nn.AdaptiveAvgPool2d((2, 4)), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
        )
    )
    found = [case for case in net.operations().values() if case.op in WEIGHTLESS]
    assert [(case.op, case.kernel, case.stride, case.in_size, case.out_size) for case in found] == [
        ("average_pool", (2, 1), (2, 1), (8, 8), (4, 8)),
        ("max_pool", (3, 3), (1, 1), (4, 8), (4, 8)),
        ("average_pool", (2, 2), (2, 2), (4, 8), (2, 4)),
        ("max_pool", (2, 4), (1, 1), (2, 4), (1, 1)),
    ]


def test_sizes_are_those_of_positions_wherever_the_channels_stand() -> None:
    class Last(nn.Module):
        """Channels last, as many of them as the maps are wide."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Linear(8, 8), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x).permute(0, 2, 3, 1)
            return self.c((torch.tanh(self.b(x)) * x).mean((1, 2)))

    net = traced(Last())
    found = net.operations()
    assert {name: (case.op, case.out_channels, case.in_size) for name, case in found.items()} == {
        "a": ("conv2d", 8, (8, 8)), "permute": ("move", 8, (1, 64)), "b": ("linear", 8, (1, 64)),
        "mul": ("multiply", 8, (1, 64)), "mean": ("average_pool", 8, (1, 64)), "c": ("linear", 5, (1, 1)),
    }  # fmt: skip
    assert found["mean"].kernel == (1, 64)


def test_pieces_follow_what_they_are_pieces_of() -> None:
    net = traced(Halves())
    found = net.operations({"a": 14} if "a" in net.groups else {})
    assert (found["chunk"].op, found["chunk"].out_channels) == ("move", found["a"].out_channels)
    assert found["chunk"].live == 2 * 36 * found["a"].out_channels


def test_wrong_widths_are_named() -> None:
    net = graph_cases.network("residual")
    with pytest.raises(es.InputError, match="no group 'stm'"):
        net.operations({"stm": 3})
    with pytest.raises(es.InputError, match="width 0 given"):
        net.operations({next(iter(net.groups)): 0})
