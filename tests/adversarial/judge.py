"""Judges an analysis by what surgery makes of it: nothing of how it was found is used.

`faults` takes a network's claims at their word, splits what is said to be splittable in many ways, and lists every
way in which the split module is not the one before. `mispredictions` does the same for the predicted loss change.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import energysplit as es
from adversarial.case import CLASSES, Case

KEPT = 1e-9
STEP = 1e-3


def outputs(module: nn.Module, x: Tensor, training: bool = False, seed: int = 0) -> list[Tensor]:
    """All tensors a copy of the module returns, in float64."""
    module = copy.deepcopy(module).train(training)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)  # torch.manual_seed keeps a stack trace for CUDA, which takes 7 ms
        return [leaf.double() for leaf in tree_leaves(module(x)) if isinstance(leaf, Tensor)]


def difference(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Largest difference relative to the largest output; infinite where shapes or finiteness differ."""
    if [a.shape for a in before] != [a.shape for a in after]:
        return float("inf")
    scale = max(float(a.abs().max()) for a in before)
    worst = max(float((a - b).abs().max()) for a, b in zip(before, after, strict=True)) / scale
    return worst if worst == worst else float("inf")


def patterns(channels: int) -> list[list[int]]:
    """Channels to split: one at the beginning, at the end, in the middle; two; all."""
    chosen = [[0], [channels - 1], [channels // 2], [0, channels - 1], list(range(channels))]
    return [list(found) for found in dict.fromkeys(tuple(sorted(set(each))) for each in chosen)]


Rounds = list[dict[str, list[int]]]


def single_plans(net: es.Network) -> Iterator[tuple[str, Rounds]]:
    """What to split: channels of one group."""
    for name, group in net.groups.items():
        if group.splittable:
            for chosen in patterns(group.channels):
                yield f"{chosen} of group {name!r}", [{name: chosen}]


def joint_plans(net: es.Network) -> Iterator[tuple[str, Rounds]]:
    """What to split, in rounds: different channels of all groups, all of all groups, all of it twice."""
    able = {name: group.channels for name, group in net.groups.items() if group.splittable}
    mixed = {name: patterns(channels)[n % len(patterns(channels))] for n, (name, channels) in enumerate(able.items())}
    whole = {name: list(range(channels)) for name, channels in able.items()}
    double = {name: list(range(2 * channels)) for name, channels in able.items()}
    yield f"{mixed}", [mixed]
    yield "every neuron", [whole]
    yield "every neuron, twice", [whole, double]
    yield (
        "the first neurons, then the last ones",
        [{name: [0] for name in able}, {name: [channels] for name, channels in able.items()}],
    )


def grown(net: es.Network, rounds: Sequence[dict[str, list[int]]]) -> es.Network:
    """The network after these splits."""
    for chosen in rounds:
        net = es.split(net, chosen)
    return net


def tied(module: nn.Module) -> set[frozenset[str]]:
    """The sets of names under which one parameter is known."""
    names: dict[int, set[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), set()).add(name)
    return {frozenset(found) for found in names.values() if len(found) > 1}


def batches_of(case: Case, module: nn.Module) -> list[Tensor]:
    """As many inputs as were traced and, where the module takes them, one more."""
    batches = [case.batch(case.traced, 11), case.batch(case.traced + 1, 12)]
    try:
        outputs(module, batches[1])
    except RuntimeError:
        return batches[:1]
    return batches


def faults(net: es.Network, case: Case) -> list[str]:
    """Every way in which a split of what is said to be splittable changes the function, fails, or can't be trained."""
    found = []
    module = copy.deepcopy(net.module)
    batches = batches_of(case, module)
    expected = [outputs(module, x) for x in batches]
    training = train_outputs(module, batches[-1])

    def judge(text: str, rounds: Rounds, thorough: bool) -> None:
        after = grown(net, rounds)
        worst = max(difference(old, outputs(after.module, x)) for old, x in zip(expected, batches, strict=True))
        if not worst < KEPT:
            found.append(f"{text}: outputs change by {worst:.1e}")
        if training is not None:
            worst = difference(training, outputs(after.module, batches[-1], training=True))
            if not worst < KEPT:
                found.append(f"{text}: outputs in train mode change by {worst:.1e}")
        if thorough:
            if tied(after.module) != tied(module):
                found.append(f"{text}: {tied(module)} were tied, {tied(after.module)} are")
            step(after.module, batches[-1])
            again = es.trace(copy.deepcopy(after.module), case.example())
            if again.widths != after.widths:
                found.append(f"{text}: traced again, widths are {again.widths}, not {after.widths}")

    for thorough, plans in ((False, single_plans(net)), (True, joint_plans(net))):
        for text, rounds in plans:
            try:
                judge(text, rounds, thorough)
            except Exception as error:  # whatever is raised, the claim was wrong
                found.append(f"{text}: {type(error).__name__}: {str(error).splitlines()[0]}")
    if case.smooth and not found:
        found += unbalanced(net, batches[0])
    return found + meddled(net, module)


def meddled(net: es.Network, module: nn.Module) -> list[str]:
    """Whether judging changed the module that was traced, and whether unsplittable groups really refuse."""
    now, then = net.module.state_dict(), module.state_dict()
    found = [
        f"{name} changed" for name in then if isinstance(then[name], Tensor) and not torch.equal(then[name], now[name])
    ]
    for name, group in net.groups.items():
        if not group.splittable:
            try:
                es.split(net, {name: [0]})
                found.append(f"group {name!r} can't be split, and was")
            except es.EnergysplitError as error:
                if group.reason not in str(error):
                    found.append(f"splitting {name!r} does not say why it can't be: {error}")
    return found


def train_outputs(module: nn.Module, x: Tensor) -> list[Tensor] | None:
    """The outputs in train mode; None where they are random."""
    first, second = outputs(module, x, training=True, seed=1), outputs(module, x, training=True, seed=2)
    return first if difference(first, second) == 0 else None


def step(module: nn.Module, x: Tensor) -> None:
    """One training step of a copy; every parameter stays finite."""
    module = copy.deepcopy(module).train()
    optimiser = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-3)
    leaves = [leaf for leaf in tree_leaves(module(x)) if isinstance(leaf, Tensor) and leaf.requires_grad]
    sum((leaf.square().mean() for leaf in leaves), torch.zeros((), dtype=torch.float64)).backward()
    optimiser.step()
    assert all(bool(torch.isfinite(p).all()) for p in module.parameters())


def random_directions(net: es.Network, seed: int = 0) -> dict[str, dict[str, Tensor]]:
    """A random direction for every producer that moves, of every group that can be split."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: {
            mover: torch.randn(net.weight(mover).shape, generator=generator, dtype=torch.float64)
            / net.weight(mover)[0].numel() ** 0.5
            for mover in group.movers
        }
        for name, group in net.groups.items()
        if group.splittable
    }


def unbalanced(net: es.Network, x: Tensor) -> list[str]:
    """Groups whose two copies, moved apart, do not cancel: outputs must change by the square of the distance."""
    directions, before, found = random_directions(net), outputs(net.module, x), []
    for name in directions:
        chosen = {name: list(range(net.widths[name]))}
        changes = []
        for size in (STEP, 2 * STEP):
            after = outputs(es.split(net, chosen, directions, size).module, x)
            changes.append(torch.cat([(a - b).flatten() for a, b in zip(after, before, strict=True)]))
        error = float((changes[1] - 4 * changes[0]).abs().max())
        allowed = 0.02 * float(changes[1].abs().max()) + 1e-12 * max(float(b.abs().max()) for b in before)
        if not error <= allowed:
            found.append(f"copies of group {name!r} do not cancel: {error:.1e} is left, {allowed:.1e} allowed")
    return found


def mispredictions(net: es.Network, x: Tensor, linear: str = "skip", largest: float = 0.01) -> list[str]:
    """Groups whose predicted loss change is not that of the real split, within 1 %; linear ones must not change it.

    linear: as for `splitting_index`; with "outgoing" offspring differ in their outgoing weights too.
    """
    targets = torch.arange(len(x)) % CLASSES
    index = es.splitting_index(net, [(x, targets)], _first_loss, method="exact", linear=linear)
    able = {name: group.channels for name, group in net.groups.items() if group.splittable}
    before, found = _loss(net.module, x, targets), []

    def compare(chosen: dict[str, list[int]]) -> None:
        directions = {name: index[name].direction for name in chosen}
        outgoing = {name: index[name].outgoing for name in chosen}
        predicted = STEP**2 / 2 * sum(float(index[name].value[channels].sum()) for name, channels in chosen.items())
        realised = _loss(es.split(net, chosen, directions, STEP, outgoing).module, x, targets) - before
        if not abs(realised - predicted) <= largest * abs(predicted) + 1e-13:
            found.append(f"{chosen}: predicted {predicted:.4e}, realised {realised:.4e}")

    for name, channels in able.items():
        if name in index:
            for chosen in patterns(channels):
                compare({name: chosen})
        else:
            after = es.split(net, {name: list(range(channels))}, random_directions(net), STEP)
            change = _loss(after.module, x, targets) - before
            if not abs(change) <= 1e-3 * STEP**2 / 2:
                found.append(f"group {name!r} is said to be linear, and changes the loss by {change:.1e}")
    compare({name: list(range(able[name])) for name in index})
    return found


def _first_loss(output: object, targets: Tensor) -> Tensor:
    return F.cross_entropy(tree_leaves(output)[0], targets)


def _loss(module: nn.Module, x: Tensor, targets: Tensor) -> float:
    return float(F.cross_entropy(outputs(module, x)[0], targets))
