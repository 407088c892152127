"""From a family to the pairs of one synthetic task."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from arc_engine.grids import GridArray, grid_from_array
from arc_engine.pretraining.families import FAMILIES, Family, Rule, SizeRange
from arc_engine.tasks import Pair

_RETRIES = 6


@dataclass(frozen=True, slots=True)
class SyntheticTask:
    """A rule, and pairs of it."""

    rule: Rule
    pairs: tuple[Pair, ...]


def draw_task(family: Family, rng: Generator, *, size: SizeRange, num_pairs: int) -> SyntheticTask:
    """One rule of the family and `num_pairs` pairs of it.

    Pairs that show nothing (output equals input, input seen before) are drawn again a few times; a rule that does
    nothing on most inputs may still yield one.
    """
    rule = family.make(rng, size)
    seen: set[bytes] = set()
    pairs = tuple(_draw_pair(rule, rng, seen=seen, may_copy=family.level == 0) for _ in range(num_pairs))
    return SyntheticTask(rule, pairs)


def draw_pairs(family: Family, rng: Generator, *, size: SizeRange, num_pairs: int) -> tuple[Pair, ...]:
    """The pairs of `draw_task`."""
    return draw_task(family, rng, size=size, num_pairs=num_pairs).pairs


def _draw_pair(rule: Rule, rng: Generator, *, seen: set[bytes], may_copy: bool) -> Pair:
    for _ in range(_RETRIES):
        before = np.ascontiguousarray(rule.draw(rng))
        after = rule.apply(before.copy())
        key = bytes(before.shape) + before.tobytes()
        if key not in seen and (may_copy or not _same(before, after)):
            break
    seen.add(key)
    return Pair(grid_from_array(before), grid_from_array(after))


def _same(before: GridArray, after: GridArray) -> bool:
    return before.shape == after.shape and bool((before == after).all())


def families_by_level(*, without: Collection[str] = ()) -> dict[int, list[Family]]:
    """All families but those named, by level, in order of their names."""
    levels: dict[int, list[Family]] = {}
    for name in sorted(FAMILIES.keys() - set(without)):
        levels.setdefault(FAMILIES[name].level, []).append(FAMILIES[name])
    return levels
