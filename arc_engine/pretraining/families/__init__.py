"""Synthetic task families, one module per theme. Importing this package registers them all in `FAMILIES`."""

from arc_engine.pretraining.families import (
    colouring,
    combining,
    completing,
    composing,
    cropping,
    geometry,
    legends,
    objects,
    painting,
    panels,
    stamping,
    tiling,
)
from arc_engine.pretraining.families.registry import FAMILIES, Family, Rule, SizeRange, family

__all__ = [
    "FAMILIES",
    "Family",
    "Rule",
    "SizeRange",
    "colouring",
    "combining",
    "completing",
    "composing",
    "cropping",
    "family",
    "geometry",
    "legends",
    "objects",
    "painting",
    "panels",
    "stamping",
    "tiling",
]
