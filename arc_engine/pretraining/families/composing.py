"""Two one-step rules, one after the other."""

from typing import Final

import numpy as np
from numpy.random import Generator

from arc_engine.grids import GridArray
from arc_engine.pretraining.families.registry import FAMILIES, Rule, SizeRange, family

_SECOND: Final = (
    "flip",
    "rotate",
    "transpose",
    "roll",
    "paint_all",
    "recolour_background",
    "paint_edge",
    "union_with_mirror",
    "gravity",
    "extend_to_edges",
    "recolour_alternate",
)
_FIRST: Final = (
    *_SECOND,
    "crop_to_content",
    "crop_half",
    "recolour_map",
    "keep_colour",
    "append_copy",
    "upscale",
    "tile",
    "logic_of_halves",
    "overlay_halves",
    "mirror_half",
    "shift",
    "outline",
    "downscale",
)


@family(theme="composition", level=3)
def compose_two(rng: Generator, size: SizeRange) -> Rule:
    """The second rule works on the output of the first; the second never needs inputs of its own kind."""
    limited = size.within(2, 6)
    first = FAMILIES[_FIRST[int(rng.integers(len(_FIRST)))]].make(rng, limited)
    second = FAMILIES[_SECOND[int(rng.integers(len(_SECOND)))]].make(rng, limited)

    def apply(grid: GridArray) -> GridArray:
        return second.apply(np.ascontiguousarray(first.apply(grid)))

    return Rule(first.draw, apply)
