import pytest

from arc_engine.base_models.loading import load_base
from arc_engine.errors import Diverged
from benchmarks import adapting_cell
from benchmarks.adapting_cell import Bench, measure_cell
from benchmarks.adapting_jobs import jobs_of
from benchmarks.adapting_models import FOLDER
from benchmarks.adapting_plan import LOOP, TRAINER, Cell, Way
from benchmarks.adapting_processes import CoreProcesses
from benchmarks.adapting_ways import train

OURS = Way("ours", 2)


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, device="cpu")


def cell_of(*ways):
    return Cell("tiny", "256", batch_size=1, steps=2, learning_rate=1e-3, ways=ways)


def measured(cell, bench, **options):
    jobs = jobs_of(cell, bench.base, source="")
    return measure_cell(cell, jobs, bench=bench, num_rounds=2, say=options.get("say", lambda line: None))


def test_every_way_is_warmed_up_and_then_they_take_turns(base):
    said = []
    record = measured(cell_of(LOOP, OURS), Bench(base, None), say=said.append)
    assert [line.rsplit(":", 1)[0] for line in said] == [LOOP.title, OURS.title] * 3
    assert [line.endswith("warm") for line in said] == [True, True, False, False, False, False]
    loop, ours = record["rows"]
    assert (loop["way"], ours["way"], ours["pack"]) == (LOOP.title, "arcadapt, K = 2", 2)
    assert len(loop["rounds"]) == 2
    assert loop["step_ms"]["least"] <= loop["step_ms"]["median"] <= loop["step_ms"]["most"]
    assert loop["largest_difference_first"] == loop["largest_difference_last"] == 0
    assert ours["largest_difference_first"] < 1e-5
    assert ours["last_loss"] == pytest.approx(loop["last_loss"], abs=1e-4)
    assert record["cell"]["gflop_per_step"] > 0
    assert record["cell"]["mean_tokens"] == pytest.approx(256, abs=4)


def test_a_way_that_fails_has_its_error_and_the_others_go_on(base, monkeypatch):
    def failing(way, *arguments, **named):
        if way == OURS:
            raise Diverged(1, 1.0, 1e9, 1e4)
        return train(way, *arguments, **named)

    monkeypatch.setattr(adapting_cell, "train", failing)
    trainer, ours = measured(cell_of(TRAINER, OURS), Bench(base, None))["rows"]
    assert ours["error"].startswith("Diverged: ")
    assert "step_ms" not in ours
    assert trainer["error"] is None
    assert trainer["largest_difference_first"] is None  # there is no loop to compare it with


def test_a_process_per_core_comes_to_the_same_losses():
    base = load_base(FOLDER, device="cpu")
    per_core = Way("ours", per_core=True)
    with CoreProcesses("arc-mini", count=2, full_vocabulary=False) as processes:
        record = measured(cell_of(LOOP, per_core), Bench(base, processes))
    loop, ours = record["rows"]
    assert ours["last_loss"] == pytest.approx(loop["last_loss"], abs=1e-4)
    with pytest.raises(ValueError, match="no such processes"):
        Bench(base, None).train(per_core, [], settings=cell_of().settings())
