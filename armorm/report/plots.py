"""Plots as SVG, to be put into a page as they are: text stays text, and takes the page's colour, light or dark.

The same values give the same bytes: no dates, no random ids.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from itertools import chain
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Numbers = Sequence[float | None]

INK: Final = "#010203"
"""Stands for the colour of the page's text until the SVG is written."""

SERIES: Final = (("#2b83ba", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#b0609a", "D"), ("#7a7a7a", "v"))
"""Colours that the colour-blind tell apart, with a contrast of 3 to 1 on white and on dark; and markers."""

DIVERGING: Final = "RdBu_r"
"""From blue over white to red: told apart with every common kind of colour blindness."""

PT: Final = 1 / 72
"""Inches of a point, which a page shows as a pixel."""

STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "armorm",
    "figure.dpi": 72,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.parse_math": False,  # names come from outside: a dollar is a dollar
    "axes.unicode_minus": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    "lines.markersize": 5,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
}


def heatmap(
    title: str,
    values: Sequence[Numbers],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    limit: float | None = None,
    digits: int = 2,
) -> str:
    """Values in cells, coloured from blue (-limit) over white (0) to red.

    Args:
        title: The alternative text.
        values: A list for each row; None is left blank.
        limit: Where colours end; by default the largest value.
    """
    cells = np.array([[np.nan if v is None else v for v in row] for row in values], dtype=np.float64)
    limit = limit or float(np.nanmax(np.abs(cells), initial=1e-9))
    with _axes(30 * len(columns), 20 * len(rows)) as (figure, axes):
        axes.imshow(cells, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="none")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_xticks(range(len(columns)), columns, rotation=90)
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        for (i, k), value in np.ndenumerate(cells):
            if np.isfinite(value):
                colour = "#ffffff" if abs(value) > 0.65 * limit else "#000000"
                axes.text(k, i, short(value, digits), color=colour, size=9, ha="center", va="center", in_layout=False)
        return _svg(figure, title)


def dots(
    title: str,
    labels: Sequence[str],
    series: Mapping[str, Numbers],
    *,
    bounds: Mapping[str, Sequence[tuple[float, float] | None]] | None = None,
    reference: float | None = None,
) -> str:
    """Return a line for each label, on it a dot for each series, with intervals where there are any.

    Args:
        title: The alternative text.
        labels: From above to below.
        series: Name to a value for each label; None is left out.
        bounds: Name to low and high for each label.
        reference: Where an upright line stands.
    """
    offsets = np.linspace(-0.2, 0.2, len(series)) if len(series) > 1 else [0.0]
    with _axes(250, max(60, (10 + 6 * len(series)) * len(labels))) as (figure, axes):
        if reference is not None:
            axes.axvline(reference, color=INK, linewidth=0.8, linestyle=":")
        for (name, values), offset, (colour, marker) in zip(series.items(), offsets, _styles(series), strict=True):
            y = [place + offset for place, value in enumerate(values) if value is not None]
            axes.plot([v for v in values if v is not None], y, marker, color=colour, label=name)
            for place, of in enumerate((bounds or {}).get(name, ())):
                if of is not None:
                    axes.plot(of, [place + offset] * 2, color=colour, linewidth=1.2)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        _legend(axes, series)
        return _svg(figure, title)


def curves(title: str, x: Sequence[float], series: Mapping[str, Numbers], *, x_label: str) -> str:
    """Series over the same x; None leaves a gap."""
    with _axes(250, 150) as (figure, axes):
        for (name, values), (colour, marker) in zip(series.items(), _styles(series), strict=True):
            y = [np.nan if value is None else value for value in values]
            axes.plot(x, y, marker=marker, color=colour, label=name, markersize=3)
        axes.set_xlabel(x_label)
        _legend(axes, series)
        return _svg(figure, title)


def diagonal(title: str, x: Sequence[float], y: Sequence[float], *, x_label: str, y_label: str) -> str:
    """Points that ought to lie on the diagonal."""
    with _axes(220, 220) as (figure, axes):
        low = min(chain(x, y, [0.5]))
        axes.plot([low, 1], [low, 1], color=INK, linewidth=0.8, linestyle=":")
        axes.plot(x, y, marker="o", color=SERIES[0][0])
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        return _svg(figure, title)


def short(value: float, digits: int) -> str:
    """Return a number for a small cell: no leading zero, and no sign of a zero."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        return "0"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


@contextmanager
def _axes(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Axes of a size in points; names and legends come around them."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has other fonts
        figure = Figure(figsize=(width * PT, height * PT))
        yield figure, figure.add_axes((0, 0, 1, 1))


def _styles(series: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [SERIES[place % len(SERIES)] for place in range(len(series))]


def _legend(axes: Axes, series: Mapping[str, Any]) -> None:
    if len(series) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, handlelength=1)


def _svg(figure: Figure, title: str) -> str:
    """Return the element alone, of one pixel a point, with ids of its own among the other plots of a page."""
    out = StringIO()
    none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(out, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.05, metadata=none)
    text = out.getvalue()
    text = re.sub(r"<!--.*?-->\n?|<metadata>.*?</metadata>\n?", "", text[text.index("<svg") :], flags=re.DOTALL)
    prefix = re.sub(r"\W+", "-", title)
    text = re.sub(r'(\bid="|"#|url\(#)', rf"\g<1>{prefix}-", text)
    text = re.sub(r' (width|height)="([\d.]+)pt"', r' \1="\2"', text, count=2)
    text = text.replace("*{stroke-linejoin", "svg *{stroke-linejoin").replace(INK, "currentColor")
    return text.replace("<svg ", f'<svg role="img" aria-label="{prefix.replace("-", " ")}" ', 1).strip()
