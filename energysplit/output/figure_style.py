"""How every figure looks: one type size, one palette that colour-blind readers can tell apart, light and dark.

Colours are those of Okabe and Ito (2008). Each has a name; inside a report the name becomes a CSS variable, so that
the same figure follows the reader's light or dark theme. Files get the light colours.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Colour:
    """A named colour on white paper and on a dark page."""

    name: str
    light: str
    dark: str


INK = Colour("ink", "#1e2a35", "#e6eaee")
MUTED = Colour("muted", "#5f6b77", "#a0abb6")
GRID = Colour("grid", "#dde3e8", "#343d46")
BLUE = Colour("blue", "#0072b2", "#56b4e8")
VERMILLION = Colour("vermillion", "#d55e00", "#f0894a")
GREEN = Colour("green", "#009e73", "#2cc397")
ORANGE = Colour("orange", "#e69f00", "#eeb33c")
PURPLE = Colour("purple", "#cc79a7", "#da9bc0")
SKY = Colour("sky", "#56b4e9", "#8fd0f5")
PAPER = Colour("paper", "#fefefe", "#151b21")
PALETTE = (PAPER, INK, MUTED, GRID, BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)

# From the seed (dark) to the last stage (light); lightness alone tells them apart.
STAGES = LinearSegmentedColormap.from_list("stages", ["#0b2f4a", "#0f5a86", "#2b87b5", "#66b3cf", "#abd7df"])
GROWTH = LinearSegmentedColormap.from_list("growth", ["#eef3f6", "#9ecbe0", "#3a8fc0", "#0b4a7a"])

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.titlecolor": INK.light,
    "axes.labelcolor": MUTED.light,
    "axes.edgecolor": GRID.light,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID.light,
    "grid.linewidth": 0.8,
    "text.color": INK.light,
    "xtick.color": GRID.light,
    "ytick.color": GRID.light,
    "xtick.labelcolor": MUTED.light,
    "ytick.labelcolor": MUTED.light,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.markersize": 6.0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.hashsalt": "energysplit",
}


@contextmanager
def style() -> Iterator[None]:
    """The settings inside the block, on top of matplotlib's own; the caller's settings come back after it."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, without a window and outside pyplot's list of figures."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def stage_colours(count: int) -> list[tuple[float, float, float, float]]:
    """A colour for each of `count` stages, the seed's first."""
    return [STAGES(stage / max(1, count - 1)) for stage in range(count)]


def no_grid(axes: Axes, along: str) -> None:
    """Remove the grid lines along one axis ("x", "y" or "both")."""
    axes.grid(False, axis=along)  # type: ignore[arg-type]


def to_svg(figure: Figure) -> str:
    """A standalone SVG, letters as outlines, so that it looks the same wherever it is shown."""
    return _save_svg(figure, "path")


def to_png(figure: Figure, dots_per_inch: int = 200) -> bytes:
    """A PNG on white paper."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=dots_per_inch, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def to_inline_svg(figure: Figure, name: str, label: str) -> str:
    """An `<svg>` element for a page: palette as CSS variables, real text, and names that no other figure uses.

    Args:
        figure: figure to draw.
        name: prefix of every id, unique in the page; letters, digits and hyphens.
        label: what a screen reader says; it must be escaped for an attribute already.

    Returns:
        The element, without declaration and document type.
    """
    text = _save_svg(figure, "none")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = text.replace("xlink:href=", "href=").replace('href="#', f'href="#{name}-')
    text = text.replace("url(#", f"url(#{name}-")
    text = re.sub(r"font:([^;\"]*?)'DejaVu Sans'[^;\"]*", r"font:\1 var(--font)", text)
    for colour in PALETTE:
        text = re.sub(re.escape(colour.light), f"var(--{colour.name})", text, flags=re.I)
    opening, rest = text.split(">", 1)
    opening = re.sub(r' (?:width|height)="[^"]*"', "", opening)
    return f'{opening} role="img" aria-label="{label}">{rest}'


def css_variables(theme: Literal["light", "dark"]) -> str:
    """The palette as CSS declarations, for the page that holds inline figures."""
    return " ".join(f"--{colour.name}: {getattr(colour, theme)};" for colour in PALETTE)


def _save_svg(figure: Figure, letters: str) -> str:
    buffer = io.StringIO()
    with style(), matplotlib.rc_context({"svg.fonttype": letters}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
