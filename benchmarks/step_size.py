"""Which step after a split is worth most after training: one stage of growth under every step policy.

    python benchmarks/step_size.py recipes/mbv1_cifar10_cpu.toml --set data.root=FOLDER --out benchmarks/results

Trains the recipe's seed once, then for each policy grows one stage from it and trains on, several times with other
seeds of the training after. Reported: held-out loss right after the split, and accuracy on the validation part of the
training images; test images are not looked at.
"""

from __future__ import annotations

import json
from dataclasses import replace

from common import machine, parser, train

from energysplit.growth import stage
from energysplit.growth.folder import TrainingState
from energysplit.growth.setup import prepare
from energysplit.progress import SilentProgress
from energysplit.recipe import load
from energysplit.train.loop import evaluate

POLICIES = {
    "fixed 0.01 (paper, V1)": ("fixed", 0.01, 1.0),
    "fixed 0.1 (paper, V2)": ("fixed", 0.1, 1.0),
    "relative 0.1": ("relative", 0.1, 1.0),
    "relative 0.3": ("relative", 0.3, 1.0),
    "relative 0.6": ("relative", 0.6, 1.0),
    "relative 1.0": ("relative", 1.0, 1.0),
    "monotone": ("monotone", 1.0, 1.0),
    "tolerance 1.1": ("tolerance", 1.0, 1.1),
    "tolerance 1.5": ("tolerance", 1.0, 1.5),
}


def main() -> None:
    """Run every policy and write a table."""
    arguments = parser(__doc__)
    options = arguments.parse_args()

    recipe = load(options.recipe, options.set)
    setup = prepare(recipe)
    seed = train(setup)

    def validation(state: TrainingState) -> float:
        return evaluate(setup.session, state.net.module, setup.splits.validation.batches(500), setup.loss).accuracy

    lines = [
        "# Step policies: one stage of growth, then training",
        "",
        f"Recipe `{options.recipe}` with {options.set}. Measured on {machine()}.",
        f"Seed: validation accuracy {validation(seed):.2%} after {seed.epoch} epochs. After the split: "
        f"{recipe.train.epochs_at(1)} epochs, {options.seeds} seeds of the training after.",
        "",
        "| policy | step found | loss before | loss after | predicted change | validation accuracy, each seed |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, (policy, size, tolerance) in POLICIES.items():
        step = recipe.step.model_copy(update={"policy": policy, "size": size, "largest": size, "tolerance": tolerance})
        changed = replace(setup, recipe=recipe.model_copy(update={"step": step}))
        growth = stage.grow(changed, seed, SilentProgress(), print)
        assert growth.record is not None
        assert growth.after is not None
        found = growth.record.step
        accuracies = []
        for number in range(options.seeds):
            again = replace(changed, recipe=changed.recipe.model_copy(update={"seed": recipe.seed + number}))
            # Training works in place, so each seed starts from a split of its own.
            after = stage.start_of_next(seed, growth.index, growth.record.allocation.split, found.size)
            accuracies.append(validation(train(again, after)))
        lines.append(
            f"| {name} | {found.policy} | {found.loss_before:.4f} | {found.loss_before + found.realised_change:.4f} "
            f"| {found.predicted_change:+.4g} | {', '.join(f'{a:.2%}' for a in accuracies)} |"
        )
        print(json.dumps({"policy": name, "accuracies": accuracies}), flush=True)
    print("\n".join(lines))
    if options.out:
        (options.out / "step_size.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
