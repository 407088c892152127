"""The hierarchical vote: first within every transformation, then between them (MIT, 2024, arXiv:2411.07279)."""

from collections.abc import Sequence
from typing import Final

from arc_engine.candidates import Candidate, Tally, tie_break
from arc_engine.views import View

CHOSEN_PER_TRANSFORMATION: Final = 3
IDENTITY_TRANSFORMATION: Final = 0


def hierarchical_votes(tally: Tally, views: Sequence[View]) -> list[tuple[float, ...]]:
    """How many of the eight transformations have each candidate among their best three; of equal ones the identity's.

    A transformation is the views that show grids turned and mirrored the same way, whatever their colours and orders.
    """
    chosen = {
        transformation: _best(tally.candidates, {n for n, view in enumerate(views) if view.dihedral == transformation})
        for transformation in sorted({view.dihedral for view in views})
    }
    return [
        (
            float(sum(candidate in best for best in chosen.values())),
            float(candidate in chosen.get(IDENTITY_TRANSFORMATION, [])),
        )
        for candidate in tally.candidates
    ]


def _best(candidates: Sequence[Candidate], views: set[int]) -> list[Candidate]:
    votes = {
        candidate.grid: sum(finding.votes for finding in candidate.findings if finding.view in views)
        for candidate in candidates
    }
    found = [candidate for candidate in candidates if votes[candidate.grid]]
    found.sort(key=lambda candidate: (-votes[candidate.grid], tie_break(candidate)))
    return found[:CHOSEN_PER_TRANSFORMATION]
