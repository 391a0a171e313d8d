"""What the training of the seed depends on: runs that agree in it train the same stage 0, bit for bit, so one will do.

Nothing of growth, indices, budgets, prices or export takes part in it, and of keys with a value for each stage only the
first. A pruning baseline starts from a wider network, and curves are drawn epoch by epoch: such runs share nothing.
"""

from __future__ import annotations

import json

from energysplit.recipe.schema import Recipe


def first_stage(recipe: Recipe) -> str:
    """A text that is equal for recipes whose stage 0 is the same training; see `unshared` for those that share none."""
    tree = recipe.resolved()
    parts = {key: tree[key] for key in ("seed", "model", "data", "train", "run")}
    parts["train"] |= {"epochs": recipe.train.epochs_at(0), "learning_rate": recipe.train.learning_rate_at(0)}
    # Where images come from does not change them once they are there.
    parts["data"].pop("download")
    return json.dumps(parts, sort_keys=True)


def unshared(recipe: Recipe) -> str:
    """Why a run must train its stage 0 itself; "" if it need not."""
    if recipe.run.tensorboard:
        return "run.tensorboard draws every epoch of a run"
    if recipe.baseline is not None and recipe.baseline.prunes:
        return f"baseline.kind = {recipe.baseline.kind!r} begins with a wider network"
    return ""
