"""Grid encoders: how a grid becomes text for a language model, and how the model's text becomes a grid again.

Encoders compose, and are written as the expression that people of the field already write:

>>> encoder = parse_encoder("GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))")
>>> print(encoder.encode(((1, 2), (3, 4))))
```grid shape: 2x2
1 12
2 34
```

The names and the formats follow the arc24 solution (https://github.com/ironbar/arc24); the parser is a whitelist over
Python's syntax tree and evaluates nothing.
"""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from string import ascii_lowercase, ascii_uppercase
from typing import Any, Final, Protocol

from arc_engine.errors import InvalidEncoder
from arc_engine.grids import MAX_SIDE, NUM_COLOURS, Grid, shape

MAX_EXPRESSION_CHARS: Final = 300


class Refusal(StrEnum):
    """Why a model's text is not a grid."""

    EMPTY = "empty"
    BAD_CELL = "bad_cell"
    RAGGED = "ragged"
    TOO_LARGE = "too_large"
    NO_CODE_BLOCK = "no_code_block"
    WRONG_SHAPE = "wrong_shape"
    WRONG_ROW_NUMBER = "wrong_row_number"
    WRONG_COLUMN = "wrong_column"
    UNFINISHED = "unfinished"
    """The model did not end its text within the token limit."""


class GridEncoder(Protocol):
    """Text form of a grid. `decode(encode(grid)) == grid` for every grid."""

    def encode(self, grid: Grid) -> str:
        """The grid as text."""
        ...

    def decode(self, text: str) -> Grid | Refusal:
        """The grid that the text shows, or the reason why it shows none."""
        ...


def _grid_from_cells(rows: Sequence[Sequence[str]]) -> Grid | Refusal:
    if not rows or not all(rows):
        return Refusal.EMPTY
    if len(rows) > MAX_SIDE or any(len(row) > MAX_SIDE for row in rows):
        return Refusal.TOO_LARGE
    if not all(len(cell) == 1 and cell in "0123456789" for row in rows for cell in row):
        return Refusal.BAD_CELL
    if any(len(row) != len(rows[0]) for row in rows):
        return Refusal.RAGGED
    return tuple(tuple(int(cell) for cell in row) for row in rows)


@dataclass(frozen=True, slots=True)
class MinimalGridEncoder:
    """One digit per cell, one line per row."""

    def encode(self, grid: Grid) -> str:
        return "\n".join("".join(map(str, row)) for row in grid)

    def decode(self, text: str) -> Grid | Refusal:
        return _grid_from_cells([list(line) for line in text.strip("\n").split("\n")])


@dataclass(frozen=True, slots=True)
class GridWithSeparationEncoder:
    """Cells of a row joined by `separator`."""

    separator: str = "|"

    def __post_init__(self) -> None:
        # Printable leaves out line ends, and the halves of surrogate pairs, which no tokenizer takes.
        if not (isinstance(self.separator, str) and self.separator and self.separator.isprintable()):
            raise InvalidEncoder("the separator is a non-empty printable text")
        if any(char.isdigit() for char in self.separator):
            raise InvalidEncoder("the separator holds no digits")

    def encode(self, grid: Grid) -> str:
        return "\n".join(self.separator.join(map(str, row)) for row in grid)

    def decode(self, text: str) -> Grid | Refusal:
        return _grid_from_cells([line.split(self.separator) for line in text.strip("\n").split("\n")])


@dataclass(frozen=True, slots=True)
class RepeatNumberEncoder:
    """Every digit written `n` times, which gives the model more positions to think in."""

    n: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.n <= 10:  # noqa: PLR2004
            raise InvalidEncoder("n is in 1..10")

    def encode(self, grid: Grid) -> str:
        return "\n".join("".join(str(cell) * self.n for cell in row) for row in grid)

    def decode(self, text: str) -> Grid | Refusal:
        rows: list[list[str]] = []
        for line in text.strip("\n").split("\n"):
            groups = [line[i : i + self.n] for i in range(0, len(line), self.n)]
            if any(group != group[0] * self.n for group in groups):
                return Refusal.BAD_CELL
            rows.append([group[0] for group in groups])
        return _grid_from_cells(rows)


ARC24_SYMBOLS: Final = tuple("ñò÷ûąćďęĚĞ")
"""One token each for Qwen2's tokenizer; models of the field were fine-tuned on them."""

CellEncoder = MinimalGridEncoder | GridWithSeparationEncoder | RepeatNumberEncoder


@dataclass(frozen=True, slots=True)
class ReplaceNumberEncoder:
    """The digits of a cell encoder replaced by ten other characters, for tokenizers in which digits merge."""

    inner: CellEncoder
    symbols: tuple[str, ...] = ARC24_SYMBOLS

    def __post_init__(self) -> None:
        if not isinstance(self.inner, CellEncoder):
            raise InvalidEncoder("ReplaceNumberEncoder wraps an encoder of cells, not of lines or blocks")
        if len(self.symbols) != NUM_COLOURS or len(set(self.symbols)) != NUM_COLOURS:
            raise InvalidEncoder("symbols are ten different characters")
        if any(len(symbol) != 1 or not symbol.isprintable() for symbol in self.symbols):
            raise InvalidEncoder("symbols are printable characters")
        separator = self.inner.separator if isinstance(self.inner, GridWithSeparationEncoder) else ""
        if any(symbol.isdigit() or symbol.isspace() or symbol in separator for symbol in self.symbols):
            raise InvalidEncoder("symbols are no digits, no white space and not in the separator")

    def encode(self, grid: Grid) -> str:
        return self.inner.encode(grid).translate({ord("0") + i: symbol for i, symbol in enumerate(self.symbols)})

    def decode(self, text: str) -> Grid | Refusal:
        if any(char.isdigit() for char in text):
            return Refusal.BAD_CELL
        return self.inner.decode(text.translate({ord(symbol): str(i) for i, symbol in enumerate(self.symbols)}))


LineEncoder = CellEncoder | ReplaceNumberEncoder


@dataclass(frozen=True, slots=True)
class RowNumberEncoder:
    """Every line preceded by its number, counted from 1; a wrong number on the way back is a refusal."""

    inner: LineEncoder

    def __post_init__(self) -> None:
        if not isinstance(self.inner, LineEncoder):
            raise InvalidEncoder("RowNumberEncoder wraps an encoder of cells")

    def encode(self, grid: Grid) -> str:
        lines = self.inner.encode(grid).split("\n")
        return "\n".join(f"{number} {line}" for number, line in enumerate(lines, start=1))

    def decode(self, text: str) -> Grid | Refusal:
        lines: list[str] = []
        for number, line in enumerate(text.strip("\n").split("\n"), start=1):
            prefix, _, cells = line.partition(" ")
            if prefix != str(number):
                return Refusal.WRONG_ROW_NUMBER
            if not cells:  # at the end of the text, the inner encoder would take it for a final line end
                return Refusal.EMPTY
            lines.append(cells)
        return self.inner.decode("\n".join(lines))


_COLUMNS: Final = ascii_lowercase + ascii_uppercase
COORDINATE_TOKENS: Final = (
    "1:",
    *(f"\n{row}:" for row in range(2, MAX_SIDE + 1)),
    *(f"{column}{colour}" for column in _COLUMNS[:MAX_SIDE] for colour in range(NUM_COLOURS)),
)
"""All that `CoordinateEncoder` writes, piece by piece: what a tokenizer made for it has a token for."""


@dataclass(frozen=True, slots=True)
class CoordinateEncoder:
    """Every line begins with its number and a colon, every cell with the letter of its column: a to z, A to D.

    A token tells where in the grid it stands, which models have to count out otherwise. Meant for tokenizers made for
    it, as `arcadapt pretrain` makes them: a token for every cell and every row, one more than plain digits take.
    """

    def encode(self, grid: Grid) -> str:
        return "\n".join(
            f"{number}:" + "".join(f"{column}{cell}" for column, cell in zip(_COLUMNS, row, strict=False))
            for number, row in enumerate(grid, start=1)
        )

    def decode(self, text: str) -> Grid | Refusal:
        rows: list[list[str]] = []
        for number, line in enumerate(text.strip("\n").split("\n"), start=1):
            prefix, _, cells = line.partition(":")
            if prefix != str(number):
                return Refusal.WRONG_ROW_NUMBER
            columns, colours = cells[::2], cells[1::2]
            if columns != _COLUMNS[: len(columns)]:
                return Refusal.WRONG_COLUMN
            if len(columns) != len(colours):
                return Refusal.BAD_CELL
            rows.append(list(colours))
        return _grid_from_cells(rows)


BodyEncoder = LineEncoder | RowNumberEncoder | CoordinateEncoder
_FENCE: Final = "```"


def _block_body(text: str, opening: str) -> str | None:
    body = text.strip("\n").removeprefix(opening + "\n")
    if body == text.strip("\n") or not body.endswith("\n" + _FENCE):
        return None
    return body.removesuffix("\n" + _FENCE)


@dataclass(frozen=True, slots=True)
class GridCodeBlockEncoder:
    """The grid inside a fenced block."""

    inner: BodyEncoder

    def __post_init__(self) -> None:
        if not isinstance(self.inner, BodyEncoder):
            raise InvalidEncoder("a code block wraps an encoder of cells, numbered rows or coordinates")

    def encode(self, grid: Grid) -> str:
        return f"{_FENCE}grid\n{self.inner.encode(grid)}\n{_FENCE}"

    def decode(self, text: str) -> Grid | Refusal:
        body = _block_body(text, f"{_FENCE}grid")
        return Refusal.NO_CODE_BLOCK if body is None else self.inner.decode(body)


@dataclass(frozen=True, slots=True)
class GridShapeEncoder:
    """The grid inside a fenced block that declares `height x width`; a grid of another shape is a refusal."""

    inner: BodyEncoder

    def __post_init__(self) -> None:
        if not isinstance(self.inner, BodyEncoder):
            raise InvalidEncoder("a code block wraps an encoder of cells, numbered rows or coordinates")

    def encode(self, grid: Grid) -> str:
        return f"{self._opening(grid)}\n{self.inner.encode(grid)}\n{_FENCE}"

    def decode(self, text: str) -> Grid | Refusal:
        opening, _, _ = text.strip("\n").partition("\n")
        body = _block_body(text, opening)
        if body is None or not opening.startswith(f"{_FENCE}grid shape: "):
            return Refusal.NO_CODE_BLOCK
        grid = self.inner.decode(body)
        if isinstance(grid, Refusal) or opening == self._opening(grid):
            return grid
        return Refusal.WRONG_SHAPE

    @staticmethod
    def _opening(grid: Grid) -> str:
        height, width = shape(grid)
        return f"{_FENCE}grid shape: {height}x{width}"


ENCODERS: Final[dict[str, Callable[..., GridEncoder]]] = {
    encoder.__name__: encoder
    for encoder in (
        MinimalGridEncoder,
        GridWithSeparationEncoder,
        RepeatNumberEncoder,
        ReplaceNumberEncoder,
        RowNumberEncoder,
        CoordinateEncoder,
        GridCodeBlockEncoder,
        GridShapeEncoder,
    )
}
"""The whitelist: the only names that an expression may call."""


def parse_encoder(expression: str) -> GridEncoder:
    """Builds the encoder that `expression` names.

    Raises `InvalidEncoder` for anything but nested calls of `ENCODERS` with literal texts, numbers and lists of texts.
    """
    if len(expression) > MAX_EXPRESSION_CHARS:
        raise InvalidEncoder(f"longer than {MAX_EXPRESSION_CHARS} characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidEncoder("not an expression such as GridShapeEncoder(MinimalGridEncoder())") from error
    if not isinstance(tree, ast.Call):
        raise InvalidEncoder(f"expected a call of one of {', '.join(ENCODERS)}")
    return _build(tree)


def _build(call: ast.Call) -> GridEncoder:
    if not isinstance(call.func, ast.Name) or call.func.id not in ENCODERS:
        raise InvalidEncoder(f"unknown encoder {ast.unparse(call.func)!r}; known are {', '.join(ENCODERS)}")
    name = call.func.id
    arguments = [_argument(node) for node in call.args]
    keywords = {_keyword(name, keyword): _argument(keyword.value) for keyword in call.keywords}
    try:
        return ENCODERS[name](*arguments, **keywords)
    except (TypeError, AttributeError) as error:
        raise InvalidEncoder(f"wrong arguments for {name}") from error


def _keyword(name: str, keyword: ast.keyword) -> str:
    if keyword.arg is None:
        raise InvalidEncoder(f"{name} takes no ** arguments")
    return keyword.arg


def _argument(node: ast.expr) -> Any:  # noqa: ANN401 - the encoder's own signature says what it takes
    match node:
        case ast.Call():
            return _build(node)
        case ast.Constant(value=str() | int() as value) if not isinstance(value, bool):
            return value
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return tuple(_argument(element) for element in elements)
    raise InvalidEncoder(f"{ast.unparse(node)!r} is not an encoder, a text, a number or a list of texts")
