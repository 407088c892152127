import pytest

from arc_engine.settings import AdaptationSettings
from benchmarks.adapting_plan import LENGTHS, LOOP, ON_CPU, ON_GPU, TRAINER, Wanted, Way, cells

pytestmark = pytest.mark.fast


def planned(*, device="cpu", num_cores=2, **wanted):
    return list(cells(Wanted(**wanted), device=device, num_cores=num_cores))


def test_every_cell_has_the_others_and_ours():
    for device, presets in (("cpu", ON_CPU), ("cuda", ON_GPU)):
        found = planned(device=device)
        assert {cell.model for cell in found} == set(presets)
        for cell in found:
            assert cell.ways[:2] == (TRAINER, LOOP)
            assert Way("ours", 1) in cell.ways
            assert cell.steps >= 2  # the first is the start
            assert len({way.title for way in cell.ways}) == len(cell.ways)


def test_real_tasks_are_trained_by_a_process_per_core_too():
    [spread] = planned(models=["arc-mini"], data=["spread"])
    assert [way.kind for way in spread.ways if way.per_core] == ["trainer", "loop", "ours", "ours"]
    [alone] = planned(models=["arc-mini"], data=["spread"], num_cores=1)
    assert not any(way.per_core for way in alone.ways)


def test_the_command_has_the_last_word():
    found = planned(models=["smollm2-135m"], data=["4096"], packs=[2], steps=5, batch_size=3)
    [cell] = found
    assert (cell.batch_size, cell.steps, [way.pack for way in cell.ways if way.kind == "ours"]) == (3, 5, [2])
    assert [cell.data for cell in planned(device="cuda", models=["qwen2.5-7b"])] == list(LENGTHS)
    assert Way("loop", autocast=True) in planned(device="cuda")[0].ways


def test_many_at_a_time_are_not_trained_on_long_sequences():
    packs = {cell.data: max(way.pack for way in cell.ways) for cell in planned(models=["arc-mini"])}
    assert [packs[data] for data in ("shortest", "spread", "512", "1024", "2048")] == [16, 4, 16, 4, 1]


def test_settings_are_the_defaults_but_for_the_cell_and_whole_batches():
    [real, synthetic] = planned(models=["arc-mini"], data=["spread", "512"])
    assert real.settings(steps=100) == AdaptationSettings(batch_tokens=None, stop_loss=None)
    assert synthetic.settings().max_seq_len == 512
    assert real.settings().max_steps == real.steps


def test_a_kept_cell_is_one_of_the_same_plan_and_conditions():
    [cell] = planned(models=["arc-mini"], data=["512"])
    [other] = planned(models=["arc-mini"], data=["512"], steps=3)
    [again] = planned(models=["arc-mini"], data=["512"])
    assert cell.digest({}) == again.digest({})
    assert len({cell.digest({}), other.digest({}), cell.digest({"torch": "3"})}) == 3
