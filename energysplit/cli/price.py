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
        str, typer.Argument(help="Name of a model, a recipe file, or a run folder.", metavar="MODEL|RECIPE|RUN")
    ],
    provider: Annotated[
        list[str] | None,
        typer.Option(
            "--provider", metavar="NAME", help="Cost provider, or module:Class. Repeat. Default: macs, params."
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="C,H,W", help="Image shape of a model; default: the model's own.")
    ] = None,
) -> None:
    """Print the price of a network, and of one more neuron in each group."""
    from energysplit.cli.console import console, cost, facts, show
    from energysplit.cli.groups import groups_table
    from energysplit.costs import NetworkPricer, cost_provider

    providers = {name: cost_provider(name) for name in provider or ("macs", "params")}
    label, net, model = _network(target, None if image is None else _shape(image))
    pricers = {name: NetworkPricer(net, found) for name, found in providers.items()}
    out = console()
    shape = " x ".join(str(size) for size in net.example_input.shape[1:])
    show(out, f"{label}, image {shape}", facts({name: cost(pricer.price()) for name, pricer in pricers.items()}))
    if model is not None:
        _print_multipliers(out, model, tuple(net.example_input.shape[1:]), providers)
    widths = net.widths
    marginal = {name: {group: pricer.marginal(widths, group) for group in widths} for name, pricer in pricers.items()}
    units = {name: found.unit for name, found in providers.items()}
    show(out, "groups, and the price of one more neuron in each", groups_table(net.groups, marginal, units))


def _network(target: str, image: tuple[int, int, int] | None) -> tuple[str, Network, str | None]:
    """Label, network, and the model's name where the target is a registered model."""
    from energysplit import models

    path = Path(target)
    if target in models.names() or (":" in target and not path.exists()):
        net = _trace(models.build(target), image or models.default_image(target))
        return f"model {target}", net, target if target in models.names() else None
    if path.is_dir():
        from energysplit.cli.run_folder import last_stage
        from energysplit.output.checkpoint import load

        _refuse_image(image, "a run")
        stage = last_stage(path)
        return f"run {path}, stage {stage.name}", load(stage), None
    if path.is_file() or path.suffix == ".toml":
        _refuse_image(image, "a recipe")
        return f"recipe {path}", _seed_of(path), None
    if len(path.parts) > 1:
        raise InputError(f"{target}: no such file or folder; expected a model, a recipe file or a run folder")
    # Says that the name is unknown, with the nearest known one.
    return target, _trace(models.build(target), models.default_image(target)), None


def _seed_of(path: Path) -> Network:
    """The seed of a recipe. Its data need not be there."""
    from energysplit import data, models
    from energysplit.recipe import load

    recipe = load(path)
    shape = data.image_shape(recipe.data.name, recipe.data.image_size)
    return _trace(models.build(recipe.model.name, **recipe.model.args), shape)


def _trace(module: Any, image: tuple[int, int, int]) -> Network:
    import torch

    from energysplit.graph import trace

    return trace(module, torch.zeros(1, *image))


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
