"""The vote: the two grids that most completions agree on."""

from collections.abc import Sequence

from arc_engine.candidates import Attempts, Candidate, rank


def select(candidates: Sequence[Candidate]) -> Attempts:
    """The two best candidates by votes; ties go by log-probability, identity view, and the grid itself (`rank`)."""
    best = sorted(candidates, key=rank)
    return Attempts(
        attempt_1=best[0].grid if best else None,
        attempt_2=best[1].grid if len(best) > 1 else None,
        confidence=best[0].score if best else 0.0,
    )
