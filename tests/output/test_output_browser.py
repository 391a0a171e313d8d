"""The pages in a real browser, on a phone and on a desk: shown, nothing cut off, nothing fetched.

Skipped where no browser is installed; `tests/browser.py` says where one is looked for.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
from compared_runs import made_up
from PIL import Image

from energysplit.growth.compared import read_run
from energysplit.output.comparison import Comparison, Published
from energysplit.output.comparison_doubts import compared
from energysplit.output.comparison_files import write_comparison
from energysplit.output.report import write_report

PHONE, DESK = 390, 1280

INSPECT = """(() => {
  const wide = document.documentElement.clientWidth, out = [], small = [];
  for (const each of document.querySelectorAll('body *')) {
    const box = each.getBoundingClientRect();
    const scrolled = each.closest('.scroll');
    if (box.right > wide + 1 && !(scrolled && scrolled !== each)) out.push(each.tagName + '.' + each.className);
  }
  for (const each of document.querySelectorAll('svg text')) {
    const height = each.getBoundingClientRect().height;
    if (height > 0) small.push(height);
  }
  return {out: out.slice(0, 5), letters: small.length ? Math.min(...small) : null,
          tables: document.querySelectorAll('table').length, figures: document.querySelectorAll('figure svg').length};
})()"""


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Window]:
    program = browser.browser()
    if not program:
        pytest.skip(f"no Chromium or Chrome is installed; name one in {browser.VARIABLE}")
    with browser.opened(program, tmp_path_factory.mktemp("browser") / "profile") as shown:
        yield shown


_MADE: dict[str, Path] = {}


@pytest.fixture
def pages(
    tmp_path_factory: pytest.TempPathFactory, synthetic_records: Callable[..., Any], synthetic_recipe: dict[str, Any]
) -> dict[str, Path]:
    """A report and a comparison with all that can be in one: doubts, many methods, long names, published points."""
    if not _MADE:
        _MADE.update(_make(tmp_path_factory.mktemp("pages"), synthetic_records, synthetic_recipe))
    return _MADE


def _make(tmp_path: Path, synthetic_records: Callable[..., Any], synthetic_recipe: dict[str, Any]) -> dict[str, Path]:
    report = write_report(tmp_path / "report", synthetic_recipe, synthetic_records(5, groups=9))
    names = ("energy-aware", "vanilla splitting by cost-blind top-k indices", "random neurons", "width multiplier")
    runs = [
        read_run(
            made_up(
                tmp_path / f"run-{name[:6]}-{seed}",
                [(1.1e7 * 1.5**stage, 0.55 + 0.03 * stage + 0.01 * seed - 0.02 * place) for stage in range(5)],
                name=name,
                seed=seed,
                images=45_000,
                finished=place != 2,
                growth={"method": name},
            )
        )
        for place, name in enumerate(names)
        for seed in range(3)
    ]
    found = compared(runs)
    published = Published("AMC", "He et al. 2018, arXiv 1802.03494, table 3", (({"macs": 2.5e7}, 0.66),))
    comparison = write_comparison(
        tmp_path / "out", Comparison(found.methods, found.costs, found.warnings, (published,))
    )
    return {"report": report, "comparison": comparison}


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("page", ["report", "comparison"])
def test_pages_are_shown_whole_and_fetch_nothing(tmp_path, window, pages, page, width):
    shown = window.show(pages[page], width, script=INSPECT)
    (tmp_path / f"{page}-{width}.png").write_bytes(shown.png)
    assert shown.width == width, "wider than the window"
    assert shown.found["out"] == []
    assert shown.found["tables"] > 0
    assert shown.found["figures"] > 0
    assert shown.found["letters"] >= (7 if width == PHONE else 10), "letters of figures, in CSS pixels"
    fetched = [url for url in shown.requests if not url.startswith("data:")]
    assert fetched == [pages[page].resolve().as_uri()], "only itself"
    picture = np.asarray(Image.open(io.BytesIO(shown.png)).convert("RGB"))
    assert picture.shape[1] == width
    # Every screenful has something on it: a page that ends in nothing was not drawn.
    assert all(part.std() > 2 for part in np.array_split(picture, max(1, len(picture) // 900)))


def test_dark_pages_are_dark(window, pages):
    light, dark = (
        np.asarray(Image.open(io.BytesIO(window.show(pages["report"], PHONE, dark=dark).png)).convert("L")).mean()
        for dark in (False, True)
    )
    assert light > 200
    assert dark < 60


def test_a_page_that_is_too_wide_or_fetches_is_noticed(tmp_path, window):
    bad = tmp_path / "bad.html"
    bad.write_text('<body><div style="width:900px">x</div><img src="http://example.invalid/a.png"></body>')
    shown = window.show(bad, PHONE, script=INSPECT)
    assert shown.width > PHONE
    assert shown.found["out"]
    assert "http://example.invalid/a.png" in shown.requests
