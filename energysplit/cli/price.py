"""`energysplit price`: what a model costs, and what one more neuron costs in each of its groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from energysplit.errors import InputError

if TYPE_CHECKING:
    from energysplit.graph import Network
    from energysplit.types import CostProvider

MULTIPLIERS = (1.0, 0.75, 0.5, 0.25)


def price(
    target: Annotated[
        str,
        typer.Argument(
            help="A model (its name; torchvision:NAME; timm:NAME; module:callable), a recipe file, or a run folder.",
            metavar="MODEL|RECIPE|RUN",
        ),
    ],
    provider: Annotated[
        list[str] | None,
        typer.Option(
            "--provider", metavar="NAME", help="Cost provider, or module:Class. Repeat. Default: macs, params."
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="C,H,W", help="Image shape of a model; needed for module:callable.")
    ] = None,
) -> None:
    """Print the price of a network, and of one more neuron in each group."""
    from energysplit.cli.console import console, cost, facts, show
    from energysplit.cli.groups import show_groups
    from energysplit.costs import NetworkPricer, cost_provider

    providers = {name: cost_provider(name) for name in provider or ("macs", "params")}
    label, net, model = _network(target, None if image is None else _shape(image))
    pricers = {name: NetworkPricer(net, found) for name, found in providers.items()}
    out = console()
    shape = " x ".join(str(size) for size in net.example_input.shape[1:])
    show(out, f"{label}, image {shape}", facts({name: cost(pricer.price()) for name, pricer in pricers.items()}))
    _compare_with_torch(out, net)
    if model is not None:
        _print_multipliers(out, model, tuple(net.example_input.shape[1:]), providers)
    widths = net.widths
    marginal = {name: {group: pricer.marginal(widths, group) for group in widths} for name, pricer in pricers.items()}
    units = {name: found.unit for name, found in providers.items()}
    show_groups(out, net.groups, marginal, units)


def _network(target: str, image: tuple[int, int, int] | None) -> tuple[str, Network, str | None]:
    """Label, network, and the model's name where the target is a registered model."""
    from energysplit import models

    path = Path(target)
    if target not in models.names():
        if path.is_dir():
            from energysplit.cli.run_folder import last_stage, load_stage

            _refuse_image(image, "a run")
            stage = last_stage(path)
            return f"run {path}, stage {stage.name}", load_stage(path, stage), None
        if path.is_file() or path.suffix == ".toml":
            _refuse_image(image, "a recipe")
            return f"recipe {path}", _seed_of(path), None
        if len(path.parts) > 1:
            raise InputError(f"{target}: no such file or folder; expected a model, a recipe file or a run folder")
    name = models.resolve(target)
    net = _trace(models.build(name), image or models.default_image(name))
    return f"model {name}", net, name if name in models.names() else None


def _seed_of(path: Path) -> Network:
    """The seed of a recipe. Its data and its trained weights need not be there."""
    from energysplit import data, models
    from energysplit.recipe import load

    recipe = load(path)
    shape = data.image_shape(recipe.data.name, recipe.data.image_size)
    return _trace(models.build_seed(recipe.model.name, recipe.model.args), shape)


def _trace(module: Any, image: tuple[int, int, int]) -> Network:
    import torch

    from energysplit.graph import trace

    return trace(module, torch.zeros(1, *image))


def _compare_with_torch(out: Any, net: Network) -> None:
    """A line that says so if the multiply-accumulates counted are not those torch counts when the module runs."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from energysplit.costs import price as network_price
    from energysplit.graph.trace import evaluating

    fast = torch.backends.mha.get_fastpath_enabled()
    # Without gradients to come: the counter stumbles over parameters that are handed on as inputs.
    parameters = {name: parameter.detach() for name, parameter in net.module.named_parameters()}
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # the counter does not see inside its one big operation
        with evaluating(net.module), FlopCounterMode(display=False) as counter, torch.no_grad():
            torch.func.functional_call(net.module, parameters, (net.example_input,))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    counted = counter.get_total_flops() / 2 / len(net.example_input)
    macs = network_price(net, "macs").value
    if macs != counted:
        out.print(f"warning: {macs:,.0f} MACs counted here, {counted:,.0f} by torch.utils.flop_counter", markup=False)


def _print_multipliers(out: Any, model: str, image: tuple[int, ...], providers: dict[str, CostProvider]) -> None:
    """Totals of the usual width multipliers, where the model has one."""
    from energysplit import models
    from energysplit.cli.console import show, si, table
    from energysplit.costs import price as network_price

    if "width_multiplier" not in models.arguments(model):
        return
    rows = []
    for multiplier in MULTIPLIERS:
        net = _trace(models.build(model, width_multiplier=multiplier), image)  # type: ignore[arg-type]
        totals = (network_price(net, found) for found in providers.values())
        rows.append((f"{multiplier:g}x", *(si(total.value, total.unit) for total in totals)))
    show(out, "width multipliers", table(("width", *providers), rows))


def _refuse_image(image: object, what: str) -> None:
    if image is not None:
        raise InputError(f"--image is for models given by name; {what} has its own image shape: leave it out")


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--image {text}: expected channels, height and width, such as 3,224,224")
    channels, height, width = (int(part) for part in parts)
    return channels, height, width
