"""Growths without figures, which take two thirds of a tiny one's time; tests of output and command line draw them."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def _no_figures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("energysplit.output.figure_style._save_svg", lambda *_: "<svg></svg>")
        patch.setattr("energysplit.output.figure_style.to_png", lambda *_, **__: b"")
        yield
