"""What a synthetic task family is, and the table of all of them.

A family draws the parameters of one rule ("mirror left to right", "recolour 3 to 7"); the rule then gives any number of
input grids and, as a pure function, the output of each. New families are registered with `@family` in a themed module.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from numpy.random import Generator

from arc_engine.grids import GridArray

Draw: TypeAlias = Callable[[Generator], GridArray]
Apply: TypeAlias = Callable[[GridArray], GridArray]


@dataclass(frozen=True, slots=True)
class SizeRange:
    """Sides of the grids to draw, in cells, both ends included."""

    low: int
    high: int

    def draw(self, rng: Generator) -> int:
        """One side."""
        return int(rng.integers(self.low, self.high + 1))

    def within(self, low: int, high: int) -> "SizeRange":
        """The part of this range between `low` and `high`; the nearest end where they do not meet."""
        bottom = min(max(self.low, low), high)
        return SizeRange(bottom, max(bottom, min(self.high, high)))


@dataclass(frozen=True, slots=True)
class Rule:
    """One drawn rule: `draw` gives random inputs, `apply` the output of an input, always the same."""

    draw: Draw
    apply: Apply


RuleMaker: TypeAlias = Callable[[Generator, SizeRange], Rule]


@dataclass(frozen=True, slots=True)
class Family:
    """A named, themed source of rules. `level` 0 is copying, 1 one step, 2 needs looking around, 3 is composed."""

    name: str
    theme: str
    level: int
    make: RuleMaker


FAMILIES: Final[dict[str, Family]] = {}


def family(*, theme: str, level: int) -> Callable[[RuleMaker], RuleMaker]:
    """Registers the decorated function under its own name."""

    def register(make: RuleMaker) -> RuleMaker:
        name = make.__name__
        if name in FAMILIES:
            raise ValueError(f"two families are called {name}")
        FAMILIES[name] = Family(name, theme, level, make)
        return make

    return register
