"""The training step of a grown network beside that of the same network built from scratch at the same widths.

    python benchmarks/grown_step.py [--growths 3] [--batch 64] [--size 32] [--repeats 15] [--out benchmarks/results]
    python benchmarks/grown_step.py --device cuda --batch 256 --repeats 50

Each recipe's seed is trained for a few steps, indexed, allocated and split as `energysplit grow` does, several times,
with its optimiser's state; images are random. Its model is then built once more, from its widths alone. Before anything
is timed both are compared, and the script fails where the grown one has anything that the built one has not: hooks, a
replaced `forward`, other attributes, sizes or modes, parameters that are views, of other strides, with more memory
behind them than they need, or another `requires_grad`; in the optimiser's state the same.

A step is forward pass, backward pass and the recipe's SGD. A second network built from scratch shows what the
comparison can tell apart.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timing import Call, begin, command, conditions, interleaved, milliseconds, ratio, timing_parser, write
from torch import Tensor, nn

import energysplit as es
from energysplit import models
from energysplit.recipe import Recipe, load
from energysplit.surgery import split_state
from energysplit.train.loop import train_epoch
from energysplit.train.optimiser import load_state_tensors, make_optimiser, state_tensors
from energysplit.train.session import Session

RECIPES = ("mbv1_cifar10", "mbv2_cifar10", "resnet18_cifar10")
FOLDER = Path(__file__).parents[1] / "recipes"
STEPS = 3
"""Training steps before each growth: the optimiser's state is there, and batch norms have statistics."""


def main() -> None:
    """Compare and time every recipe's network and write a table."""
    parser = timing_parser(__doc__, repeats=15)
    parser.add_argument("--growths", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    options = parser.parse_args()
    device = begin(options)
    rows, samples, failed = [], [], []
    for name in RECIPES:
        recipe = load(FOLDER / f"{name}.toml")
        with Session(str(device), threads=options.threads, channels_last=recipe.run.channels_last) as session:
            torch.manual_seed(recipe.seed)
            x, y = torch.randn(options.batch, 3, options.size, options.size), torch.randint(10, (options.batch,))
            batch = session.shard((x, y))
            seed = es.trace(models.build(recipe.model.name, **recipe.model.args), x[:2])
            net, optimiser = grown(recipe, session, seed, batch, options.growths)
            built = [session.place(from_scratch(recipe, net.widths)) for _ in range(2)]
            optimisers = [trained(recipe, session, module, batch) for module in built]
            found = differences(net.module, built[0]) + different_states(net.module, optimiser, built[0], optimisers[0])
            failed += [f"{name}: {text}" for text in found]
            steps = {
                "grown": step(net.module, optimiser, batch),
                "from scratch": step(built[0], optimisers[0], batch),
                "from scratch again": step(built[1], optimisers[1], batch),
            }
            seconds = interleaved(steps, options.repeats, device)
        before, after = (sum(p.numel() for p in module.parameters()) for module in (seed.module, net.module))
        samples.append({"recipe": name, "widths": net.widths, "seconds": seconds, "differences": found})
        rows.append(
            f"| {name} | {before:,} -> {after:,} | {milliseconds(seconds['grown'])} "
            f"| {milliseconds(seconds['from scratch'])} | {ratio(seconds['grown'], seconds['from scratch'])} "
            f"| {ratio(seconds['from scratch again'], seconds['from scratch'])} | {len(found) or 'none'} |"
        )
        print(rows[-1], flush=True)
    lines = [
        f"# Training step of a grown network, {options.growths} growths, batches of {options.batch} at {options.size}x"
        f"{options.size}",
        "",
        f"{command()}. {conditions(options)} Milliseconds with quartiles; ratios with 95 % intervals.",
        "",
        "| recipe | parameters | grown, ms | from scratch, ms | grown / from scratch "
        "| from scratch again / from scratch | differences |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *rows,
    ]
    write(options, "grown_step", lines, samples)
    if failed:
        print(
            "\n".join(["a grown network is not what the same widths built from scratch are:", *failed]), file=sys.stderr
        )
        raise SystemExit(1)


def grown(
    recipe: Recipe, session: Session, net: es.Network, batch: tuple[Tensor, Tensor], growths: int
) -> tuple[es.Network, torch.optim.Optimizer]:
    """The seed after so many growths inside the recipe's budgets, trained a little after each, with its optimiser."""
    budgets = [es.Budget(budget.provider, budget.limit, budget.scope) for budget in recipe.budget]
    optimiser = trained(recipe, session, session.place(net.module), batch)
    for growth in range(growths):
        index = es.splitting_index(net, [batch], F.cross_entropy, linear=recipe.index.linear, sweeps=2, seed=growth)
        chosen = es.allocate(net, index, budgets).chosen
        state = split_state(net, chosen, state_tensors(optimiser, net.module))
        net = es.split(net, chosen, index, step=0.01)
        optimiser = trained(recipe, session, session.place(net.module), batch, state)
    return net, optimiser


def trained(
    recipe: Recipe,
    session: Session,
    module: nn.Module,
    batch: tuple[Tensor, Tensor],
    state: Mapping[str, Tensor] | None = None,
) -> torch.optim.Optimizer:
    """The optimiser after a few steps on one batch, with the module in training mode."""
    settings = recipe.train
    optimiser = make_optimiser(
        module,
        optimizer=settings.optimizer,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
    )
    load_state_tensors(optimiser, module, state or {})
    train_epoch(
        session, module, optimiser, [batch] * STEPS, loss_fn=F.cross_entropy, learning_rate=lambda _: 1e-3, seed=0
    )
    return optimiser


def step(module: nn.Module, optimiser: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> Call:
    """One step of training."""
    x, y = batch

    def call() -> None:
        optimiser.zero_grad()
        F.cross_entropy(module(x), y).backward()
        optimiser.step()

    return call


def from_scratch(recipe: Recipe, widths: Mapping[str, int]) -> nn.Module:
    """The recipe's model with these widths of its groups, by its own constructor."""
    arguments: dict[str, Any] = dict(recipe.model.args)

    def ending(*ends: str) -> list[int]:
        return [width for name, width in widths.items() if name.endswith(ends)]

    match recipe.model.name:
        case "mobilenet_v1_cifar":
            arguments |= {"widths": ending("stem.conv", "pointwise")}
        case "mobilenet_v2_cifar":
            arguments |= {"stem": widths["stem.conv"], "last": widths["last.conv"]}
            arguments |= {"hidden": ending("expand.conv"), "trunk": ending("project.conv")}
        case "resnet_cifar":
            arguments |= {"trunk": ending("stem.conv", "second.conv"), "hidden": ending("first.conv")}
    return models.build(recipe.model.name, **arguments)


def differences(module: nn.Module, built: nn.Module) -> list[str]:
    """What a module has that one built from scratch has not, a sentence each."""
    found = []
    for kind in ("modules", "parameters", "buffers"):
        mine, others = (dict(getattr(each, f"named_{kind}")()) for each in (module, built))
        if alone := mine.keys() ^ others.keys():
            found.append(f"{kind} {sorted(alone)} only in one")
        compared = other_layer if kind == "modules" else other_tensor
        found += [text for name in mine if name in others for text in compared(name, mine[name], others[name])]
    return found


def different_states(
    module: nn.Module, optimiser: torch.optim.Optimizer, built: nn.Module, other: torch.optim.Optimizer
) -> list[str]:
    """The same of the optimisers' tensors."""
    states, others = (
        {f"{name}/{key}": value for name, parameter in each.named_parameters() for key, value in its[parameter].items()}
        for each, its in ((module, optimiser.state), (built, other.state))
    )
    found = []
    if alone := states.keys() ^ others.keys():
        found.append(f"optimiser state {sorted(alone)} only in one")
    for name, tensor in states.items():
        if name in others and isinstance(tensor, Tensor):
            found += other_tensor(name, tensor, others[name])
    return found


def other_layer(name: str, layer: nn.Module, built: nn.Module) -> list[str]:
    """How a module differs from the one in its place, by itself."""
    checks = {
        "another class": type(layer) is type(built),
        "other sizes": layer.extra_repr() == built.extra_repr(),
        "another mode": layer.training == built.training,
        "other attributes": vars(layer).keys() == vars(built).keys(),
        "hooks": not any(hooks for kind, hooks in vars(layer).items() if "hooks" in kind),
    }
    return [f"{name or 'the model'} has {what}" for what, same in checks.items() if not same]


def other_tensor(name: str, tensor: Tensor, built: Tensor) -> list[str]:
    """How a tensor differs from the one in its place, in everything but its values."""
    checks = {
        "another class": type(tensor) is type(built),
        "another shape": tensor.shape == built.shape,
        "other strides": strides(tensor) == strides(built),
        "another type": tensor.dtype == built.dtype,
        "another requires_grad": tensor.requires_grad == built.requires_grad,
        "more memory than it needs": tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size(),
        "a base, as a view": tensor._base is None,
        "a history, as a result": tensor.is_leaf,
        "hooks": not tensor._backward_hooks and not getattr(tensor, "_post_accumulate_grad_hooks", None),
        "other attributes": vars(tensor).keys() == vars(built).keys(),
    }
    return [f"{name} has {what}" for what, same in checks.items() if not same]


def strides(tensor: Tensor) -> list[int]:
    """Strides of the dimensions that have more than one index; those of the others mean nothing."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


if __name__ == "__main__":
    main()
