"""The compact prompt."""

import pytest

from arc_engine.encoders import parse_encoder
from arc_engine.prompts import Segment, render
from arc_engine.tasks import Pair

pytestmark = pytest.mark.fast

PAIRS = [Pair(((1,),), ((2,),)), Pair(((3, 4),), ((5,), (6,)))]
ENCODER = parse_encoder("MinimalGridEncoder()")


def test_a_training_sequence_ends_with_its_last_answer():
    assert render(PAIRS, query=None, encoder=ENCODER) == [
        Segment("I1O"),
        Segment("2", answer=0),
        Segment("I34O"),
        Segment("5\n6", answer=1),
    ]


def test_a_query_is_left_open_for_the_model():
    segments = render(PAIRS, query=((7,),), encoder=ENCODER)
    assert segments[:-1] == render(PAIRS, query=None, encoder=ENCODER)
    assert segments[-1] == Segment("I7O")


def test_the_encoder_writes_the_grids():
    segments = render(PAIRS[:1], query=None, encoder=parse_encoder("GridCodeBlockEncoder(MinimalGridEncoder())"))
    assert segments == [Segment("I```grid\n1\n```O"), Segment("```grid\n2\n```", answer=0)]
