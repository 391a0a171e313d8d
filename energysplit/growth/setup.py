"""Everything a recipe names, made and checked before anything is written: data, seed network, budgets, session."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from energysplit import data, models
from energysplit.allocation.bounds import ceilings, matching
from energysplit.allocation.budgets import budget_names, resolve
from energysplit.costs import NetworkPricer
from energysplit.errors import InputError, RecipeError, nearest
from energysplit.graph import Network, trace
from energysplit.graph.copied import copied
from energysplit.graph.edit import duplicate
from energysplit.growth.arguments import recipe_bounds
from energysplit.growth.baselines.chain import Baseline, load_baseline
from energysplit.growth.given_sizes import given_sizes, place_seed
from energysplit.growth.priced import Priced, priced
from energysplit.growth.random_weights import at_random
from energysplit.growth.reference import Reference
from energysplit.growth.teacher import Teacher, load_teacher
from energysplit.kinds import FRESH
from energysplit.output import tensorboard
from energysplit.recipe import Recipe
from energysplit.splitting import exact, rmsprop
from energysplit.splitting.capture import Loss
from energysplit.splitting.layout import Layout
from energysplit.splitting.plan import segments
from energysplit.splitting.precision import check_precision
from energysplit.splitting.share import Share
from energysplit.splitting.statistics import norms_of
from energysplit.train.session import Session
from energysplit.types import Budget, Cost


@dataclass(frozen=True)
class Setup:
    """A recipe ready to run.

    priced: the reported providers and the budgets', by the name the journal shows. seed_price: price of the seed by
    budget name; what "1.5x" of scope "network" multiplies. loss: of training, also that of the splitting indices.
    teacher: what only training adds to the loss, where the recipe names one. baseline: what takes the place of growing,
    where the recipe has one. sizes: the run whose sizes its growths take, where it names one. untrained: a copy of the
    seed that no training touches, where the last training of a growth starts from random weights.
    """

    recipe: Recipe
    session: Session
    splits: data.Splits
    seed: Network
    priced: Priced
    seed_price: dict[str, float]
    loss: Loss
    teacher: Teacher | None = None
    baseline: Baseline | None = None
    sizes: Reference | None = None
    untrained: Network | None = None

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The recipe's budgets."""
        return self.priced.budgets

    @property
    def share(self) -> Share:
        """This process's part of the images that splits are estimated on."""
        session = self.session
        return Share(session.rank, session.processes, session.sum, session.team.everyone)

    def epochs_at(self, stage: int) -> int:
        """The most epochs that a stage trains."""
        return self.baseline.epochs(stage) if self.baseline else self.recipe.train.epochs_at(stage)

    def learning_rate_at(self, stage: int) -> float:
        """The learning rate at the start of a stage's training, after the warm-up."""
        return self.baseline.learning_rate(stage) if self.baseline else self.recipe.train.learning_rate_at(stage)

    def afresh(self, net: Network, stage: int) -> Network:
        """A network of the same widths, for a stage that starts from random weights."""
        assert self.untrained is not None
        return at_random(self.untrained, net.widths, self.seed_of("init", stage))

    def prices(self, net: Network) -> dict[str, Cost]:
        """Price of a network by each reported provider and each budget's."""
        return {name: NetworkPricer(net, provider).price() for name, provider in self.priced.providers.items()}

    def seed_of(self, *place: int | str) -> int:
        """A seed for one place of the run (stage, epoch, purpose), the same in every run of the recipe."""
        return place_seed(self.recipe.seed, *place)


def prepare(recipe: Recipe) -> Setup:
    """Load the data, build and trace the seed, price it, and check that the recipe can be run.

    Raises:
        InputError: of the kind that fits: data, model, budget or recipe.
    """
    run = recipe.run
    session = Session(
        device=run.device,
        precision=run.precision,
        threads=run.threads,
        channels_last=run.channels_last,
        deterministic=run.deterministic,
    )
    try:
        # An error on one process is raised on all. Files are fetched once a machine.
        first = session.is_first_here or not recipe.data.download
        return session.team.in_turn(lambda: _checked(recipe, session), first)
    except BaseException:
        session.close()
        raise


def _checked(recipe: Recipe, session: Session) -> Setup:
    """The setup around an open session."""
    if recipe.run.tensorboard:
        tensorboard.check_installed()
    splits = data.load(
        recipe.data.name,
        root=recipe.data.root,
        image_size=recipe.data.image_size,
        validation=recipe.data.validation,
        seed=recipe.seed,
        download=recipe.data.download,
        limit=recipe.data.limit,
    )
    _check_images(recipe, len(splits.train), session.processes)
    seed = _seed(recipe, splits)
    if not any(parameter.requires_grad for parameter in seed.module.parameters()):
        raise InputError(
            f"model {recipe.model.name!r}: no parameter is trained (requires_grad is False for all of them); expected: "
            "one that trains. Leave out requires_grad_(False) where it is built"
        )
    if recipe.index.method == "exact" and recipe.growth.stages > 0 and recipe.baseline is None:
        exact.check_size(layout(recipe, seed).shapes)
    if recipe.growth.stages > 0 and recipe.baseline is None:
        index = recipe.index
        with norms_of(seed.module, index.statistics):  # refuses batch norms that can't have these
            segments(seed, index.curvature, index.linear, index.statistics)
        check_precision(index.precision, next(seed.module.parameters()).dtype)
    _check_single_images(recipe, seed, splits.image_shape)
    _check_groups(recipe, seed)
    found = priced(recipe)
    seed_price = {
        name: NetworkPricer(seed, budget.provider).price().value
        for name, budget in zip(budget_names(found.budgets), found.budgets, strict=True)
    }
    limits = resolve(seed, found.budgets, seed_price)
    sizes = given_sizes(recipe, seed, found.budgets, limits, layout(recipe, seed).shapes)
    for provider in found.providers.values():
        NetworkPricer(seed, provider)
    loss = partial(F.cross_entropy, label_smoothing=recipe.train.label_smoothing)
    teacher = load_teacher(recipe.train.teacher, splits, session) if recipe.train.teacher else None
    baseline = load_baseline(recipe, seed, found) if recipe.baseline else None
    anew = recipe.growth.last_weights == "random" and recipe.growth.stages > 0 and recipe.baseline is None
    untrained = _untrained(recipe, seed) if anew else None
    return Setup(recipe, session, splits, seed, found, seed_price, loss, teacher, baseline, sizes, untrained)


def _untrained(recipe: Recipe, seed: Network) -> Network:
    """A copy of the seed, once it is known that the networks it may grow into can be given random weights."""
    ceiling = ceilings(recipe_bounds(recipe), seed.groups)
    wider = {
        name: group.channels + (group.splittable and group.channels < ceiling.get(name, math.inf))
        for name, group in seed.groups.items()
    }
    at_random(seed, wider, 0, "growth.last_weights = 'random'")
    return duplicate(seed, {})


def _check_groups(recipe: Recipe, seed: Network) -> None:
    """Refuse multiples and bounds for groups that the network has not."""
    given = recipe.growth.multiple_of
    for name in given if isinstance(given, dict) else ():
        if name not in seed.groups:
            raise RecipeError(f"growth.multiple_of: no group {name!r} in this network; {nearest(name, seed.groups)}")
    for pattern in recipe.growth.bounds:
        try:
            matching(pattern, seed.groups)
        except InputError as error:
            raise RecipeError(f"growth.{error}") from None


def _check_images(recipe: Recipe, images: int, processes: int) -> None:
    """Refuse samples larger than the training part, and a last batch that batch norm can't use."""
    wanted = recipe.index.images + recipe.index.held_out_images
    if recipe.growth.stages > 0 and recipe.baseline is None and wanted > images:
        raise RecipeError(
            f"index.images + index.held_out_images = {wanted} given, at most the {images} training images "
            f"of {recipe.data.name} expected; lower them or data.validation"
        )
    if recipe.growth.stages > 0 and recipe.baseline is None and recipe.index.statistics == "batch":
        _check_samples(recipe, processes)
    if images % recipe.train.batch_size == 1:
        raise RecipeError(
            f"train.batch_size = {recipe.train.batch_size} leaves a last batch of one of the {images} training images, "
            "which has no batch statistics; change it by one"
        )
    smallest = min(images, recipe.train.batch_size, images % recipe.train.batch_size or images)
    if processes > 1 and smallest < 2 * processes:
        raise RecipeError(
            f"train.batch_size = {recipe.train.batch_size} makes a batch of {smallest} of the {images} training "
            f"images, too few for {processes} processes, which need two each; change it, or start fewer processes"
        )


def _check_single_images(recipe: Recipe, seed: Network, shape: tuple[int, int, int]) -> None:
    """Refuse batches of one image where a batch norm would see one value of a channel, which has no statistics."""
    if recipe.train.batch_size > 1:
        return
    try:
        copied(seed.module).train()(torch.zeros(1, *shape))
    except ValueError as error:
        raise RecipeError(
            f"train.batch_size = 1 given, but a batch norm of this network has no statistics of one image ({error}); "
            "use two or more, or a network without batch norm"
        ) from None


def _check_samples(recipe: Recipe, processes: int) -> None:
    """Refuse index batches that have no statistics of their own on some process."""
    index = recipe.index
    for key, count in (("images", index.images), ("held_out_images", index.held_out_images)):
        size = (
            min(index.batch_size, rmsprop.BATCH) if key == "images" and index.method == "rmsprop" else index.batch_size
        )
        last = count % index.batch_size % size or size
        if min(last, count) < 2 * processes:
            raise RecipeError(
                f"index.{key} = {count} leaves a last batch of {min(last, count)} (index.batch_size = "
                f"{index.batch_size}), and index.statistics = 'batch' needs two images a process; change it by a few, "
                "or use index.statistics = 'running'"
            )


def _seed(recipe: Recipe, splits: data.Splits) -> Network:
    """The seed network, built from the recipe's seed and checked against the images and their classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        module = models.build(recipe.model.name, **recipe.model.args)
    models.check_image(module, splits.image_shape, splits.classes)
    return trace(module, torch.zeros(2, *splits.image_shape))


def layout(recipe: Recipe, net: Network) -> Layout:
    """What directions of this recipe's indices are made of; the groups that have none are left out."""
    index = recipe.index
    if index.method == FRESH:
        able = [name for name, group in net.groups.items() if group.splittable and group.movers]
        return Layout(net, able, outgoing=False)
    taking_part = {name for segment in segments(net, index.curvature, index.linear) for name in segment.groups}
    return Layout(net, [name for name in net.groups if name in taking_part], index.linear == "outgoing")
