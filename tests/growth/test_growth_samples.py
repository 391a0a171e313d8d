"""Index samples that have no batch statistics are refused before anything is written."""

from __future__ import annotations

import growth_runs
import pytest

from energysplit import growth
from energysplit.errors import RecipeError


@pytest.mark.parametrize(
    ("index", "key"),
    [
        ({"images": 129, "batch_size": 64}, "index.images = 129 leaves a last batch of 1"),
        ({"held_out_images": 257}, "index.held_out_images = 257 leaves a last batch of 1"),
        ({"images": 193, "batch_size": 128, "method": "rmsprop"}, "index.images = 193 leaves a last batch of 1"),
    ],
)
def test_a_last_batch_of_one_image_is_refused(tmp_path, index, key):
    with pytest.raises(RecipeError, match=key):
        growth.grow(growth_runs.tiny(index=index), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    growth.plan(growth_runs.tiny(index={**index, "statistics": "running"}))
