"""Loss curves of an experiment as a picture."""

from pathlib import Path
from typing import Final

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from api.experiment_schemas import CellCurve, ExperimentCurves

STYLES: Final = ("-", "--", ":", "-.")
COLOURS: Final = 10
"""Of matplotlib's tab10; with more cells the line style changes too."""
WIDTH_IN: Final = 11.0
HEIGHT_IN: Final = 6.0
LEGEND_ROWS: Final = 24
DPI: Final = 130
_SMALLEST: Final = 1e-6


def draw_curves(curves: ExperimentCurves, path: Path) -> None:
    """Writes a PNG: mean loss by step of every cell, with a band of one standard deviation over seeds."""
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    palette = colormaps["tab10"]
    trained = [cell for cell in curves.cells if cell.points]  # not those without adaptation
    for number, cell in enumerate(trained):
        colour, style = palette(number % COLOURS), STYLES[number // COLOURS % len(STYLES)]
        axes.plot(*_means(cell), style, color=colour, linewidth=1.3, label=cell.name)
        axes.fill_between(*_band(cell), color=colour, alpha=0.15, linewidth=0)
    axes.set_yscale("log")
    for of_ticks in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        of_ticks(LogFormatter(minor_thresholds=(2, 0.7)))  # 0.5 in place of 5 x 10^-1
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("training loss, nats per token")
    axes.set_title(curves.name)
    axes.grid(visible=True, which="both", alpha=0.2)
    if trained:
        columns = -(-len(trained) // LEGEND_ROWS)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False, ncols=columns)
    figure.savefig(path)


def _means(cell: CellCurve) -> tuple[list[int], list[float]]:
    return [point.step for point in cell.points], [point.loss for point in cell.points]


def _band(cell: CellCurve) -> tuple[list[int], list[float], list[float]]:
    known = [(point.step, point.loss, point.std) for point in cell.points if point.std is not None]
    below = [max(loss - std, _SMALLEST) for _, loss, std in known]  # the axis is logarithmic
    return [step for step, _, _ in known], below, [loss + std for _, loss, std in known]
