"""What the parts of docs/benchmarks.md are made of."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

Results: TypeAlias = dict[str, Any]
"""A document of `benchmarks/results/`."""
Part: TypeAlias = Callable[[Results], str]
"""Writes one part of the page from its benchmark's results."""


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, ["---"] * len(header), *lines))


def percent(share: float) -> str:
    """With one decimal."""
    return f"{100 * share:.1f}%"


def hardware(machine: Results) -> str:
    """What `benchmarks.machine.machine` found, in words."""
    device = f", {machine['gpu']}" if machine["gpu"] else ""
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB{device}"


def packages(versions: dict[str, str]) -> str:
    """What `benchmarks.machine.versions` found, in words."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())
