"""Every way trains for real, on a tiny model."""

import pytest

from arc_engine.base_models.loading import load_base
from benchmarks.adapting_jobs import Job, jobs_of
from benchmarks.adapting_plan import LOOP, TRAINER, Cell, Way
from benchmarks.adapting_processes import evenly
from benchmarks.adapting_ways import train

CELL = Cell("tiny", "256", batch_size=2, steps=3, learning_rate=1e-3, ways=())


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, device="cpu")


@pytest.fixture(scope="module")
def jobs(base):
    return jobs_of(CELL, base, source="") * 2


@pytest.fixture(scope="module")
def reference(base, jobs):
    return train(LOOP, base, jobs, settings=CELL.settings()).losses


@pytest.mark.parametrize("way", [TRAINER, Way("ours", 1), Way("ours", 2)], ids=lambda way: way.title)
def test_all_come_to_the_same_losses_and_leave_the_base_as_it_was(way, base, jobs, reference):
    before = {name: weights.clone() for name, weights in base.model.state_dict().items()}
    trained = train(way, base, jobs, settings=CELL.settings())
    for own, theirs in zip(trained.losses, reference, strict=True):
        assert own == pytest.approx(theirs, abs=1e-5)
    assert (trained.timing.num_jobs, trained.timing.num_steps) == (2, 6 if way.kind == "ours" else 4)
    assert trained.timing.step_s > 0
    assert not base.model.training
    after = base.model.state_dict()
    assert after.keys() == before.keys()
    assert all(after[name].equal(weights) for name, weights in before.items())


def test_the_same_job_has_the_same_losses_again(reference):
    assert reference[0] == reference[1]
    assert len(set(reference[0])) == CELL.steps


def test_the_loop_can_compute_under_autocast(base, jobs, reference):
    found = train(Way("loop", autocast=True), base, jobs[:1], settings=CELL.settings()).losses
    assert found[0] == pytest.approx(reference[0], abs=0.1)
    assert found[0] != reference[0]


def test_shares_have_about_as_many_tokens():
    jobs = [Job(str(length), None, (((0,) * length,),)) for length in (9, 1, 5, 4, 1)]
    assert evenly(jobs, count=2) == [[0, 1], [2, 3, 4]]
    assert evenly(jobs[:1], count=2) == [[0], []]
