"""`energysplit price`: what a model costs, and what one more neuron costs in each of its groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from energysplit.cli.arguments import AllowCode
from energysplit.errors import InputError, RunError, first_complaint

if TYPE_CHECKING:
    from energysplit.graph import Network
    from energysplit.recipe import HardwareRecipe, Recipe
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
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", metavar="NAME|FILE", help="Hardware profile; default: that of the recipe or of the run."
        ),
    ] = None,
    tables: Annotated[
        str | None,
        typer.Option(
            "--tables", metavar="DIR", help="Folder of the cost table; default: cost_tables/ and the profile's name."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a cost table of another machine or runtime.")
    ] = False,
    allow_code: AllowCode = False,
) -> None:
    """Print the price of a network, and of one more neuron in each group.

    A price that is no exact count is shown with its interval, and every price with its source.
    """
    from energysplit.cli.arguments import image_shape
    from energysplit.cli.console import console, cost, facts, show
    from energysplit.cli.groups import show_groups
    from energysplit.cli.run_folder import check_code
    from energysplit.costs import NetworkPricer
    from energysplit.costs.configured import configured, said_of_tables
    from energysplit.costs.marginals import known_marginals

    wanted = provider or ["macs", "params"]
    _refuse_unused(wanted, {"profile": profile, "tables": tables, "strict": strict})
    recipe = _recipe(target, allow_code)
    if not allow_code and Path(target).is_dir():
        check_code(Path(target))
    hardware = _hardware(target, recipe, profile, tables, strict)
    with said_of_tables() as said:
        providers = {name: configured(name, hardware) for name in wanted}
    label, net, model = _network(target, recipe, None if image is None else image_shape(image))
    pricers = {name: NetworkPricer(net, found) for name, found in providers.items()}
    out = console()
    for text in dict.fromkeys(said):
        out.print(f"warning: {text}", markup=False, soft_wrap=True)
    shape = " x ".join(str(size) for size in net.example_input.shape[1:])
    show(out, f"{label}, image {shape}", facts({name: cost(pricer.price()) for name, pricer in pricers.items()}))
    _compare_with_torch(out, net)
    if model is not None:
        _print_multipliers(out, model, tuple(net.example_input.shape[1:]), providers)
    marginal = {name: known_marginals(pricer) for name, pricer in pricers.items()}
    units = {name: found.unit for name, found in providers.items()}
    show_groups(out, net.groups, {name: found for name, (found, _) in marginal.items()}, units)
    for name, (_, refusal) in marginal.items():
        if refusal:
            out.print(f"{name}, -: {refusal}", markup=False)


def _recipe(target: str, allow_code: bool) -> Recipe | None:
    """The recipe in a file, whatever its name; None if the target is a model or a run."""
    from energysplit import models
    from energysplit.recipe import load

    path = Path(target)
    is_recipe = target not in models.names() and (path.is_file() or (path.suffix == ".toml" and not path.is_dir()))
    return load(path, allow_code=allow_code) if is_recipe else None


def _refuse_unused(wanted: list[str], given: dict[str, object]) -> None:
    """Refuse an option that none of the providers takes: it would change nothing, silently."""
    from energysplit.costs import names
    from energysplit.costs.configured import takes

    for option, value in given.items():
        if value and not any(takes(name, option) for name in wanted):
            able = ", ".join(name for name in names() if takes(name, option))
            raise InputError(
                f"--{option}: none of the providers {', '.join(wanted)} takes it; add --provider and one of {able}"
            )


def _hardware(
    target: str, recipe: Recipe | None, profile: str | None, tables: str | None, strict: bool
) -> HardwareRecipe:
    """The options given, over what the recipe or the run says; another profile than theirs has tables of its own."""
    from energysplit.recipe import HardwareRecipe
    from energysplit.recipe.saved import RECIPE_FILE, saved_recipe

    path, base = Path(target), HardwareRecipe()
    if recipe is not None:
        base = recipe.hardware
    elif (path / RECIPE_FILE).is_file():
        said = saved_recipe(path).get("hardware", {})
        try:
            base = HardwareRecipe.model_validate(said)
        except ValueError as error:
            raise RunError(f"{path / RECIPE_FILE} is damaged: hardware: {first_complaint(error)}") from None
    return HardwareRecipe(
        profile=profile or base.profile,
        tables=tables or (base.tables if profile is None else None),
        strict=strict or base.strict,
    )


def _network(target: str, recipe: Recipe | None, image: tuple[int, int, int] | None) -> tuple[str, Network, str | None]:
    """Label, network, and the model's name where the target is a registered model."""
    from energysplit import models

    path = Path(target)
    if recipe is not None:
        _refuse_image(image, "a recipe")
        return f"recipe {path}", _seed_of(recipe), None
    if target not in models.names():
        if path.is_dir():
            from energysplit.cli.run_folder import last_stage, load_stage

            _refuse_image(image, "a run")
            stage = last_stage(path)
            return f"run {path}, stage {stage.name}", load_stage(path, stage), None
        if len(path.parts) > 1:
            raise InputError(f"{target}: no such file or folder; expected a model, a recipe file or a run folder")
    name = models.resolve(target)
    net = _trace(models.build(name), image or models.default_image(name))
    return f"model {name}", net, name if name in models.names() else None


def _seed_of(recipe: Recipe) -> Network:
    """The seed of a recipe. Its data and its trained weights need not be there."""
    from energysplit import data, models

    shape = data.image_shape(recipe.data.name, recipe.data.image_size)
    return _trace(models.build_seed(recipe.model.name, recipe.model.args), shape)


def _trace(module: Any, image: tuple[int, int, int]) -> Network:
    import torch

    from energysplit.graph import trace

    return trace(module, torch.zeros(1, *image))


def _compare_with_torch(out: Any, net: Network) -> None:
    """A line that says so if the multiply-accumulates counted are not those torch counts when the module runs."""
    import torch

    from energysplit.costs import price as network_price
    from energysplit.graph.counting import counting
    from energysplit.graph.trace import evaluating

    # Without gradients to come: the counter stumbles over parameters that are handed on as inputs.
    parameters = {name: parameter.detach() for name, parameter in net.module.named_parameters()}
    with evaluating(net.module), counting() as counter, torch.no_grad():
        torch.func.functional_call(net.module, parameters, (net.example_input,))
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
        cells = []
        for found in providers.values():
            try:
                cells.append(si(network_price(net, found).value, found.unit))
            except InputError:  # a table that does not reach there
                cells.append("-")
        rows.append((f"{multiplier:g}x", *cells))
    show(out, "width multipliers", table(("width", *providers), rows))


def _refuse_image(image: object, what: str) -> None:
    if image is not None:
        raise InputError(f"--image is for models given by name; {what} has its own image shape: leave it out")
