"""Networks built to mislead the analysis: each is split exactly or refused with a reason, and none is wrong."""

from __future__ import annotations

import builtins
import copy
import operator
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from adversarial import ALL, judge
from adversarial.case import Case, around
from adversarial.random_nets import random_case
from stock_networks import counted_macs
from torch import Tensor, nn

import energysplit as es
from energysplit.graph.network import Network, Role

_KNOWN = {*dir(torch), *dir(F), *dir(nn), *dir(Tensor), *dir(operator), *dir(builtins)}


def names_something(sentence: str, module: nn.Module) -> bool:
    """Whether it is a sentence that names a layer of the module or an operation, or speaks of the outputs."""
    own = {name for name, _ in module.named_modules()}
    own |= {name for name, _ in [*module.named_parameters(), *module.named_buffers()]}
    known = _KNOWN | own | {name.replace(".", "_") for name in own}
    named = {re.sub(r"_\d+$", "", name) for name in re.findall(r"[\w.]+(?=[':])", sentence)}
    return len(sentence.split()) >= 3 and bool(named & known or re.search(r"\boutputs?\b", sentence))


def groups_of(net: es.Network, tensor: str) -> list[es.SplitGroup]:
    """The groups whose channels are rows of a tensor."""
    by_slot = {slot.group for slot in net.slots if slot.tensor == tensor and slot.span.dim == 0}
    by_name = {name for name, group in net.groups.items() if tensor.rpartition(".")[0] in group.producers}
    return [net.groups[name] for name in sorted(by_slot | by_name)]


def traced(module: nn.Module, case: Case) -> es.Network | str:
    """The network, or why it is refused as a whole."""
    try:
        return es.trace(module, case.example())
    except es.UnsupportedModel as error:
        return str(error)


@pytest.mark.parametrize("name", ALL)
def test_each_is_exact_or_refused(name: str) -> None:
    case = ALL[name]
    module = case.module()
    module.train()
    state, before = copy.deepcopy(module.state_dict()), judge.outputs(module, case.example())
    net = traced(module, case)
    if isinstance(net, str):
        assert not case.splits, f"{case.splits} can be split, and the whole model is refused: {net}"
        assert len(net.split()) > 8, net
        assert all(re.search(pattern, net) for pattern in case.refuses.values()), net
        return
    assert net.module is module
    assert all(torch.equal(tensor, state[key]) for key, tensor in module.state_dict().items())
    assert all(part.training for part in module.modules())
    assert judge.difference(before, judge.outputs(module, case.example())) == 0
    for tensor in case.splits:
        assert [group for group in groups_of(net, tensor) if group.splittable], (tensor, groups_of(net, tensor))
    for tensor, pattern in case.refuses.items():
        for group in groups_of(net, tensor):
            assert not group.splittable, group
            assert re.search(pattern, group.reason), (group.reason, pattern)
    for group in net.groups.values():
        assert (group.reason == "") == group.splittable, group
        assert group.splittable or names_something(group.reason, module), group.reason
    assert judge.faults(net, case) == []


@pytest.mark.parametrize("linear", ["skip", "outgoing"])
@pytest.mark.parametrize("name", [name for name, case in ALL.items() if case.predicts])
def test_predicted_loss_change_is_that_of_the_split(name: str, linear: str) -> None:
    case = ALL[name]
    net = traced(case.module(), case)
    assert isinstance(net, str) or judge.mispredictions(net, case.batch(4, 2), linear) == []


@pytest.mark.parametrize("name", ALL)
def test_the_price_is_what_torch_counts_before_and_after_a_split(name: str) -> None:
    case = ALL[name]
    net = traced(case.module(), case)
    if isinstance(net, str):
        return
    whole = {key: list(range(group.channels)) for key, group in net.groups.items() if group.splittable}
    for each in (net, es.split(net, whole)):
        images = counted_macs(each.module, case.example())
        assert es.price(each, "macs").value == images / case.traced


@pytest.mark.parametrize("name", ALL)
def test_outputs_depend_on_every_parameter(name: str) -> None:
    """Else a network would prove nothing."""
    case = ALL[name]
    module, x = case.module(), case.example()
    before = [judge.outputs(module, x, training) for training in (False, True)]
    for key, parameter in module.named_parameters():
        with torch.no_grad():
            kept = parameter.clone()
            parameter.add_(torch.randn_like(parameter) * 0.1)
            after = [judge.outputs(module, x, training) for training in (False, True)]
            parameter.copy_(kept)
        changed = any(judge.difference(old, new) > 1e-6 for old, new in zip(before, after, strict=True))
        assert changed or key in case.idle, key


# The judge itself: the analysis of a harmless network is put on another one with the same layers.
IMPOSTORS = {
    "channels in reverse order": lambda m, x: x + x.flip(1),
    "softmax over channels": lambda m, x: torch.softmax(x, 1),
    "sum over channels": lambda m, x: x * x.sum(1, keepdim=True),
    "running sum": lambda m, x: torch.cumsum(x, 1),
    "normalised": lambda m, x: F.layer_norm(x, x.shape[1:]),
    "channels rolled": lambda m, x: x * x.roll(1, 1),
    "a channel by number": lambda m, x: x * x[:, 2:3],
    "the last channel but one": lambda m, x: x + x[:, -2:-1],
    "a width that is read": lambda m, x: x / m.conv.out_channels,
    "another function when trained": lambda m, x: x + x.flip(1) if m.training else x,
}


def plain() -> Case:
    return Case(lambda: around(lambda m, x: x))


@pytest.mark.parametrize("name", IMPOSTORS)
def test_the_judge_sees_an_impostor(name: str) -> None:
    case = plain()
    net = es.trace(case.module(), case.example())
    assert judge.faults(net, case) == []
    impostor = Case(lambda: around(IMPOSTORS[name]))
    net.module.run = impostor.module().run
    found = judge.faults(net, impostor)
    assert [text for text in found if re.search(r"outputs (in train mode )?change by", text)], found


def test_the_judge_sees_copies_that_do_not_cancel() -> None:
    case = plain()
    net = es.trace(case.module(), case.example())
    # A copy does not change the largest channel, but a copy that moves does.
    impostor = Case(lambda: around(lambda m, x: x / (2 + x.amax(1, keepdim=True))))
    net.module.run = impostor.module().run
    assert any("do not cancel" in text for text in judge.unbalanced(net, case.batch(3, 13)))


def tampered(net: es.Network, tensor: str, dim: int, **changes: object) -> es.Network:
    """The network with another analysis of one dimension of one tensor: other spans, or another role."""
    slots = []
    for slot in net.slots:
        if (slot.tensor, slot.span.dim) == (tensor, dim):
            span = replace(slot.span, **{key: value for key, value in changes.items() if key != "role"})
            slot = replace(slot, span=span, role=changes.get("role", slot.role))
        slots.append(slot)
    assert slots != list(net.slots)
    return Network(net.module, net.example_input, net.groups, tuple(slots), net.ops, net.layers, net.output)


@pytest.mark.parametrize(
    ("name", "tensor", "dim", "changes"),
    [
        # As if channels came last before the flatten: the same number of indices, in another order.
        ("view_with_the_batch", "fc.weight", 1, {"starts": tuple(range(0, 64, 4)), "block": 1}),
        ("flatten_with_channels_last", "fc.weight", 1, {"starts": (0,), "block": 16}),
        ("residual_trunk", "fc.weight", 1, {"role": Role.FOLLOWER}),
        ("residual_trunk", "n2.running_var", 0, {"role": Role.CONSUMER}),
        ("convnext_block", "down.weight", 1, {"role": Role.FOLLOWER}),
    ],
)
def test_the_judge_sees_a_wrong_slot(name: str, tensor: str, dim: int, changes: dict[str, object]) -> None:
    case = ALL[name]
    net = es.trace(case.module(), case.example())
    found = judge.faults(tampered(net, tensor, dim, **changes), case)
    assert [text for text in found if "outputs change by" in text], found


def test_the_judge_sees_a_slot_that_is_missing() -> None:
    case = ALL["residual_trunk"]
    net = es.trace(case.module(), case.example())
    kept = tuple(slot for slot in net.slots if slot.tensor != "n2.running_mean")
    assert judge.faults(Network(net.module, net.example_input, net.groups, kept, net.ops, net.layers, net.output), case)


def test_the_judge_sees_branches_confused() -> None:
    """Two branches of two channels each stand in a join the other way round."""
    case = ALL["inception_block"]
    net = es.trace(case.module(), case.example())
    starts = {slot.group: slot.span.starts for slot in net.slots if slot.tensor == "fc.weight"}
    one, other = (groups_of(net, tensor)[0].name for tensor in ("a.weight", "c.weight"))
    exchange = {one: other, other: one}
    slots = tuple(
        replace(slot, span=replace(slot.span, starts=starts[exchange[slot.group]]))
        if slot.tensor == "fc.weight" and slot.group in exchange
        else slot
        for slot in net.slots
    )
    wrong = Network(net.module, net.example_input, net.groups, slots, net.ops, net.layers, net.output)
    assert judge.faults(wrong, case)


@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_the_judge_sees_a_wrong_prediction(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    case = ALL["residual_trunk"]
    net = es.trace(case.module(), case.example())
    real = es.splitting_index
    assert judge.mispredictions(net, case.batch(4, 2)) == []

    def wrong(*args: object, **options: object) -> dict[str, es.SplitIndex]:
        return {name: replace(found, value=found.value * factor) for name, found in real(*args, **options).items()}

    monkeypatch.setattr(es, "splitting_index", wrong)
    assert judge.mispredictions(net, case.batch(4, 2))


@pytest.mark.parametrize("seed", range(30))
def test_random_networks(seed: int) -> None:
    case = random_case(seed)
    net = traced(case.module(), case)
    if isinstance(net, str):
        return
    assert judge.faults(net, case) == []
    assert judge.mispredictions(net, case.batch(4, 2)) == []
