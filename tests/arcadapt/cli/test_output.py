"""What people read of an answer."""

import pytest

from api.answer_schemas import TestAnswer as Answer
from arcadapt.cli.output import confidence_text

pytestmark = pytest.mark.fast

GRID = [[1]]


@pytest.mark.parametrize(
    ("second", "confidences", "text"),
    [
        ([[2]], (0.5, 0.25), "75% (50% + 25%)"),
        (None, (0.75, 0.0), "75%"),
        ([[2]], None, "75%"),  # of a version that said no more
    ],
)
def test_an_answer_is_as_sure_as_its_attempts_together(
    second: list[list[int]] | None, confidences: tuple[float, float] | None, text: str
) -> None:
    answer = Answer(attempt_1=GRID, attempt_2=second, confidence=0.75, confidences=confidences, correct=None)
    assert confidence_text(answer) == text
