"""The sizes of another run: what each of its stages had in channels and cost, read from its journal without weights.

Baselines are compared with a growth at its own prices, so they take them from its run folder. A run that goes on with
other sizes than it began with would not end where it was going, so it notes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energysplit.costs import NetworkPricer, amount
from energysplit.errors import RecipeError, RunError
from energysplit.graph import Network
from energysplit.growth import journal
from energysplit.growth.noted import hold
from energysplit.output.sizes import REFERENCE_FILE, sizes_digest
from energysplit.recipe.saved import RECIPE_FILE, saved_recipe
from energysplit.records import JOURNAL_FILE, CostRecord, GrowthRecord
from energysplit.types import CostProvider

_SAME_PRICE = 1e-9  # relative: the journal holds prices to the last bit, a table in another file may round


@dataclass(frozen=True)
class Reference:
    """A finished run's sizes. key: the recipe key that names it, for messages."""

    run: Path
    key: str
    records: tuple[GrowthRecord, ...]

    @property
    def stages(self) -> int:
        """Number of its finished stages; there is one growth fewer."""
        return len(self.records)

    def widths(self, stage: int) -> dict[str, int]:
        """Group -> channels at a stage."""
        return dict(self.records[stage].widths)

    def price(self, stage: int, provider: str) -> CostRecord:
        """The price of a stage's network, by the name the provider has in the journal.

        Raises:
            RecipeError: the run did not report that price.
        """
        prices = self.records[stage].prices
        if provider not in prices:
            raise RecipeError(
                f"{self.said}: its journal has no prices by {provider!r}, which a budget here is in; it has "
                f"{', '.join(prices)}. Add {provider!r} to its report.providers and grow it again, or give a budget "
                "that it reports"
            )
        return prices[provider]

    @property
    def said(self) -> str:
        """The key with its value, as messages begin."""
        return f"{self.key} = {str(self.run)!r}"

    def check(self, seed: Network, providers: Mapping[str, CostProvider]) -> None:
        """Refuse a run whose sizes mean something else here.

        Args:
            seed: of the run that wants the sizes.
            providers: of its budgets, by the name the journal shows.

        Raises:
            RecipeError: the run began with another network, or its prices are by another provider or table.
        """
        if self.widths(0) != seed.widths:
            other = sorted(self.widths(0).items() ^ seed.widths.items())[0][0]
            raise RecipeError(
                f"{self.said}: that run began with another network ({other!r}: {self.widths(0).get(other, 'no')} "
                f"channels there, {seed.widths.get(other, 'no')} here); give a run of the same model and model.args"
            )
        for name, provider in providers.items():
            pricer = NetworkPricer(seed, provider)
            for stage in range(self.stages):
                theirs, ours = self.price(stage, name), pricer.price(self.widths(stage))
                if theirs.unit != ours.unit or not math.isclose(theirs.value, ours.value, rel_tol=_SAME_PRICE):
                    raise RecipeError(
                        f"{self.said}: its stage {stage} cost {amount(theirs.value, theirs.unit)} by {name!r} there, "
                        f"and costs {amount(ours.value, ours.unit)} here; give both recipes the same data.image_size, "
                        "[hardware] and options of the provider"
                    )

    def hold(self, run: Path) -> None:
        """Note the sizes in a run folder, or check that they are those noted there.

        Raises:
            RunError: the run was started with other sizes, or the note can't be read.
        """
        digest = sizes_digest(
            (record.widths, {name: price.value for name, price in record.prices.items()}) for record in self.records
        )
        hold(
            run / REFERENCE_FILE,
            {"run": str(self.run), "sizes_sha256": digest},
            "sizes_sha256",
            f"run folder {run} was started with other sizes than {self.run} has now ({REFERENCE_FILE}); put that "
            "run back, remove this folder, or choose another with --run",
        )


def read_reference(path: str | Path, key: str, stages: int) -> Reference:
    """The sizes of a finished run.

    Args:
        path: its run folder, relative to the working directory.
        key: the recipe key that names it, such as "baseline.sizes_of".
        stages: growths of the run that wants them; it must have made at least as many.

    Raises:
        RunError: there is no run, it is not finished, or its recipe or journal can't be read.
        RecipeError: it has fewer growths, or is itself a baseline.
    """
    said = f"{key} = {str(path)!r}"
    try:
        run = Path(path).expanduser()
        there = (run / RECIPE_FILE).exists()
    except (OSError, RuntimeError) as error:  # a name too long, a folder that may not be read; no such home folder
        raise RunError(f"{said}: can't be read ({getattr(error, 'strerror', None) or error})") from None
    recipe = _recipe(run, there, said)
    if recipe.get("baseline") is not None:
        raise RecipeError(
            f"{said}: that run is a baseline itself (baseline.kind); give the run of the growth it is compared with"
        )
    file = run / JOURNAL_FILE
    if not file.exists():
        raise RunError(f"{said}: the run has no finished stage yet; grow it first: energysplit grow RECIPE --run {run}")
    records, damage = journal.recover(file)
    if damage:
        raise RunError(f"{said}: {damage}; repair it first: energysplit grow RECIPE --run {run} --resume")
    wanted = _growths(recipe, said)
    if not records or not records[-1].ends:
        raise RunError(
            f"{said}: the run is not finished, {len(records)} of {wanted + 1} stages are; grow it to its end first: "
            f"energysplit grow RECIPE --run {run} --resume"
        )
    grew = sum(record.growth is not None for record in records)
    if stages > grew:
        raise RecipeError(
            f"growth.stages = {stages} given, but the run of {said} grew {grew} times; at most {grew} expected"
        )
    return Reference(run, key, tuple(records))


def _recipe(run: Path, there: bool, said: str) -> dict[str, Any]:
    """The run's resolved recipe. there: whether its file is.

    Raises:
        RunError: there is none that can be read.
        OSError: the disk refuses it.
    """
    if not there:
        raise RunError(
            f"{said}: no run is there, for it has no {RECIPE_FILE}; expected a run folder that `energysplit grow` "
            "wrote. Grow it first"
        )
    try:
        return saved_recipe(run)
    except RunError as error:
        raise RunError(f"{said}: {error}") from error


def _growths(recipe: Mapping[str, Any], said: str) -> int:
    """The number of growths the run's recipe asks for.

    Raises:
        RunError: it says none.
    """
    growth = recipe.get("growth")
    stages = growth.get("stages") if isinstance(growth, dict) else None
    if not isinstance(stages, int):
        raise RunError(f"{said}: its {RECIPE_FILE} has no growth.stages; grow it again in a new folder")
    return stages
