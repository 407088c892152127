"""How sure to be of an attempt."""

from collections.abc import Sequence

from arc_engine.candidates import Candidate
from arc_engine.settings import SelectionMethod


def confidences(ranked: Sequence[Candidate], *, num_views: int, method: SelectionMethod) -> tuple[float, float]:
    """The estimated probabilities that the first and the second candidate are right; 0 where there is none."""
    del method
    first, second = (
        (len(c.findings) / num_views for c in ranked[:2])
        if len(ranked) > 1
        else (  # TODO calibrate
            len(ranked[0].findings) / num_views if ranked else 0.0,
            0.0,
        )
    )
    return first, min(second, 1 - first)
