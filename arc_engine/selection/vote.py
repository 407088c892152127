"""The vote: the grids that most completions agree on."""

from collections.abc import Sequence

from arc_engine.candidates import Tally
from arc_engine.views import View


def vote_shares(tally: Tally, _views: Sequence[View]) -> list[tuple[float, ...]]:
    """The share of all completions, refused ones included, that gave each candidate."""
    return [(candidate.votes / tally.num_completions,) for candidate in tally.candidates]
