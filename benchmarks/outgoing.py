"""What outgoing directions are worth: one stage of growth with each rule for linear groups, at the same budget.

    python benchmarks/outgoing.py recipes/mbv2_cifar10_cpu.toml --set data.root=FOLDER --sizes 0.1 0.3 0.6 \\
        --out benchmarks/results

Trains the recipe's seed once. Then, for each of index.linear = skip, unit, outgoing, it grows one stage within the
recipe's budget and trains on, for every size of the step (the loss bears smaller ones where columns move too), several
times with other seeds of the training after. Reported: where the neurons went, the held-out loss right after the split,
and the accuracy on the validation part of the training images; test images are not looked at.
"""

from __future__ import annotations

import json
from dataclasses import replace

from common import machine, parser, train

from energysplit.costs import price
from energysplit.growth import stage
from energysplit.growth.folder import TrainingState
from energysplit.growth.setup import prepare
from energysplit.progress import SilentProgress
from energysplit.recipe import load
from energysplit.splitting.plan import segments
from energysplit.train.loop import evaluate

RULES = ("skip", "unit", "outgoing")


def main() -> None:
    """Run every rule at every size and write a table."""
    arguments = parser(__doc__)
    arguments.add_argument("--sizes", type=float, nargs="+", help="relative steps; the recipe's own step if not given")
    options = arguments.parse_args()

    recipe = load(options.recipe, options.set)
    setup = prepare(recipe)
    seed = train(setup)
    bent = {name for segment in segments(seed.net, "exact", "skip") for name in segment.groups}
    steps = [recipe.step]
    if options.sizes:
        steps = [recipe.step.model_copy(update={"policy": "relative", "size": size}) for size in options.sizes]

    def validation(state: TrainingState) -> float:
        return evaluate(setup.session, state.net.module, setup.splits.validation.batches(500), setup.loss).accuracy

    limits = ", ".join(f"{budget.provider} {budget.limit}" for budget in recipe.budget)
    lines = [
        "# Groups without a nonlinearity: left alone, surrogate, or outgoing directions",
        "",
        f"Recipe `{options.recipe}` with {options.set}. Measured on {machine()}.",
        f"Seed: validation accuracy {validation(seed):.2%} after {seed.epoch} epochs, "
        f"{price(seed.net, 'macs').value:,.0f} MACs. One stage of growth, limit {limits}, then "
        f"{recipe.train.epochs_at(1)} epochs, {options.seeds} seeds of that training.",
        "",
        "| linear | step | neurons split: in linear groups, in others | MACs | index s | loss before | loss after "
        "| predicted at 1 % step | realised | validation accuracy, each seed | mean |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for rule in RULES:
        for step in steps:
            index = recipe.index.model_copy(update={"linear": rule})
            changed = replace(setup, recipe=recipe.model_copy(update={"index": index, "step": step}))
            growth = stage.grow(changed, seed, SilentProgress(), print)
            assert growth.record is not None
            assert growth.after is not None
            found, split = growth.record.step, growth.record.allocation.split
            accuracies = []
            for number in range(options.seeds):
                again = replace(changed, recipe=changed.recipe.model_copy(update={"seed": recipe.seed + number}))
                # Training works in place, so each seed starts from a split of its own.
                accuracies.append(validation(train(again, stage.start_of_next(seed, growth.index, split, found.size))))
            linear = sum(len(channels) for name, channels in split.items() if name not in bent)
            others = sum(len(channels) for name, channels in split.items() if name in bent)
            lines.append(
                f"| {rule} | {found.policy} | {linear}, {others} | {price(growth.after.net, 'macs').value:,.0f} "
                f"| {growth.seconds['index']:.1f} | {found.loss_before:.4g} "
                f"| {found.loss_before + found.realised_change:.4g} "
                f"| {found.small_predicted_change:+.3g} | {found.small_realised_change:+.3g} "
                f"| {', '.join(f'{a:.2%}' for a in accuracies)} | {sum(accuracies) / len(accuracies):.2%} |"
            )
            print(json.dumps({"linear": rule, "step": found.policy, "accuracies": accuracies}), flush=True)
    print("\n".join(lines))
    if options.out:
        (options.out / "outgoing.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
