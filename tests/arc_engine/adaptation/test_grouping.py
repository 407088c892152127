"""Who goes with whom: limits hold for every choice, and those of the nearest size are asked first."""

from hypothesis import given
from hypothesis import strategies as st

from arc_engine.adaptation.examples import Example
from arc_engine.adaptation.grouping import joined
from arc_engine.adaptation.packed_batch import Portion


def portion(lengths):
    """Sequences of which the model reads so many tokens."""
    examples = tuple(Example((0,) * (length + 1), (False,) * length + (True,)) for length in lengths)
    return Portion(examples, tuple(range(len(lengths))), len(lengths))


def computed(portions):
    return len(portions) * max(len(one.rows) for one in portions) * max(one.length for one in portions)


def padded_for_others(portions):
    return computed(portions) - sum(one.num_padded for one in portions)


def holds(portions, max_tokens, max_padding):
    return computed(portions) <= max_tokens and padded_for_others(portions) <= max_padding * computed(portions)


lengths = st.lists(st.integers(1, 40), min_size=1, max_size=5)
portions = lengths.map(portion)
budgets = st.integers(1, 2_000)
shares = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])


@given(portions, st.lists(portions, max_size=8), budgets, shares)
def test_limits_hold(lead, others, max_tokens, max_padding):
    chosen = joined(lead, others, max_tokens=max_tokens, max_padding=max_padding)
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(range(len(others)))
    if chosen:
        assert holds([lead, *(others[index] for index in chosen)], max_tokens, max_padding)


@given(portions, st.lists(portions, max_size=8), budgets, shares)
def test_none_is_left_out_that_would_have_fitted_when_its_turn_came(lead, others, max_tokens, max_padding):
    chosen = joined(lead, others, max_tokens=max_tokens, max_padding=max_padding)

    def distance(index):
        return abs(others[index].num_padded - lead.num_padded)

    for left_out in set(range(len(others))) - set(chosen):
        nearer = [others[one] for one in chosen if (distance(one), one) < (distance(left_out), left_out)]
        assert not holds([lead, *nearer, others[left_out]], max_tokens, max_padding)


@given(portions, st.lists(portions, max_size=8))
def test_without_limits_everybody_goes(lead, others):
    assert set(joined(lead, others, max_tokens=10**9, max_padding=1.0)) == set(range(len(others)))


@given(portions, st.integers(0, 6), shares)
def test_equals_go_together_as_far_as_there_is_room(lead, num_others, max_padding):
    room = 3 * lead.num_padded
    assert len(joined(lead, [lead] * num_others, max_tokens=room, max_padding=max_padding)) == min(2, num_others)


def test_the_nearest_size_is_first():
    lead, others = portion([10]), [portion([n]) for n in (14, 9, 30, 11)]
    assert joined(lead, others, max_tokens=22, max_padding=1.0) == [1]
    assert joined(lead, others, max_tokens=33, max_padding=1.0) == [1, 3]
    assert joined(lead, others, max_tokens=10**9, max_padding=0.22) == [1, 3, 0]
