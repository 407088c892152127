"""An evaluation to look at: per test input the input, the truth and both attempts, in ARC's colours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from arc_engine.grids import NUM_COLOURS, Grid, grid_to_array, shape
from arcadapt.drawing import COLOURS
from arcadapt.evaluation import Evaluation, InputResult

ROWS_PER_PICTURE: Final = 40
COLUMNS: Final = ("input", "truth", "attempt 1", "attempt 2")
SLOT_INCHES: Final = 1.8
LABEL_SLOTS: Final = 0.9
"""Room for the task's name left of the grids, in slots."""
GRID_SHARE: Final = 0.84
"""Share of its slot that a grid takes along its longer side."""
DPI: Final = 100
RIGHT: Final = "#1a7f37"
WRONG: Final = "#cf222e"
PLAIN: Final = "#57606a"
LINES: Final = "#555555"

_CELLS: Final = ListedColormap(COLOURS)

Row = tuple[str, InputResult]
"""A test input's label and result."""


def write_pictures(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Writes `picture.png`, and `picture-2.png` and so on where one cannot hold all test inputs; returns the files."""
    rows: list[Row] = [
        (task.task_id if len(task.tests) == 1 else f"{task.task_id}\ntest {index}", test)
        for task in evaluation.tasks
        for index, test in enumerate(task.tests)
    ]
    files = []
    for number, start in enumerate(range(0, len(rows), ROWS_PER_PICTURE), start=1):
        files.append(folder / ("picture.png" if number == 1 else f"picture-{number}.png"))
        draw_rows(rows[start : start + ROWS_PER_PICTURE]).savefig(files[-1], format="png")
    return files


def draw_rows(rows: Sequence[Row]) -> Figure:
    """A figure with a row per test input, on one pair of axes that counts in slots from the upper left corner."""
    width, height = LABEL_SLOTS + len(COLUMNS), len(rows)
    figure = Figure(figsize=(width * SLOT_INCHES, (height + 0.2) * SLOT_INCHES), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, -0.2)
    for column, title in enumerate(COLUMNS):
        axes.text(LABEL_SLOTS + column + 0.5, -0.08, title, ha="center", va="center", color=PLAIN)
    for row, (label, test) in enumerate(rows):
        solved = test.metrics.pass_at_2 == 1
        verdict = f"{label}\n{'right' if solved else 'wrong'}"
        axes.text(LABEL_SLOTS / 2, row + 0.5, verdict, ha="center", va="center", color=RIGHT if solved else WRONG)
        for column, grid in enumerate((test.input, test.truth, *test.attempts)):
            frame = PLAIN if column < len(COLUMNS) - len(test.attempts) else RIGHT if grid == test.truth else WRONG
            _draw_grid(axes, grid, centre=(LABEL_SLOTS + column + 0.5, row + 0.5), frame=frame)
    return figure


def _draw_grid(axes: Axes, grid: Grid | None, *, centre: tuple[float, float], frame: str) -> None:
    if grid is None:
        axes.text(*centre, "no answer", ha="center", va="center", style="italic", color=frame)
        return
    height, width = shape(grid)
    cell = GRID_SHARE / max(height, width)
    left, top = centre[0] - width * cell / 2, centre[1] - height * cell / 2
    edges_x = [left + x * cell for x in range(width + 1)]
    edges_y = [top + y * cell for y in range(height + 1)]
    axes.pcolormesh(
        edges_x,
        edges_y,
        grid_to_array(grid),
        cmap=_CELLS,
        vmin=-0.5,
        vmax=NUM_COLOURS - 0.5,
        edgecolors=LINES,
        linewidth=0.4,
    )
    outline_x, outline_y = [left, left + width * cell], [top, top + height * cell]
    axes.plot(
        [outline_x[i] for i in (0, 1, 1, 0, 0)], [outline_y[i] for i in (0, 0, 1, 1, 0)], color=frame, linewidth=2
    )
