"""Base models with an adapter of their own: going on with it, or starting anew on the two merged."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sqlalchemy import update

from arc_engine.adaptation.adapter import Adapter
from arc_engine.base_models.merging import merge
from arc_engine.errors import BaseModelUnavailable
from jobs.database import transaction
from jobs.errors import SettingsConflict
from jobs.models import BaseModelRow
from jobs.repositories import BaseModelRepository
from jobs.repositories.base import lease_until
from jobs.repositories.base_models import MAX_MERGE_ATTEMPTS
from jobs.states import Phase
from tests.worker.desk import QUICK, Desk
from worker.adapter_archive import load
from worker.base_folders import BaseFolders
from worker.pipeline import adapt_job, sample_jobs
from worker.preparing import prepare
from worker.workshop import Workshop

STEPS = {"max_steps": 4, "batch_size": 2}


def settings(**adaptation: Any) -> dict[str, Any]:
    return {**QUICK, "base_model": "tuned", "adaptation": {**STEPS, **adaptation}}


def row(desk: Desk, name: str = "tuned") -> BaseModelRow:
    with transaction(desk.sessions) as session:
        return BaseModelRepository(session).get(name)


@pytest.fixture
def tuned(desk: Desk, tiny_base: Path, base_adapter: Path) -> Desk:
    """Jobs may name `tuned`: the tiny base with an adapter."""
    config = Adapter.load(base_adapter).config
    with transaction(desk.sessions) as session:
        BaseModelRepository(session).register(
            "tuned", str(tiny_base), adapter_source=str(base_adapter), adapter_config=config
        )
    return desk


def test_continue_goes_on_with_the_base_adapter_on_the_unmerged_base(
    tuned: Desk, workshop: Workshop, tiny_base: Path, base_adapter: Path
):
    job_id = tuned.submit(settings=settings(start="continue", learning_rate=1e-9))
    stored = tuned.job(job_id).settings["adaptation"]
    assert (stored["lora_rank"], stored["lora_alpha"], stored["target_modules"]) == (3, 6, ["q_proj", "v_proj"])

    adapt_job(tuned.claim_for_adapting(job_id), workshop=workshop)
    job = tuned.job(job_id)
    assert job.phase is Phase.ADAPTED
    assert job.adapter is not None
    assert (job.usage["num_steps"], job.usage["stopped_by"]) == (4, "max_steps")
    before = Adapter.load(base_adapter)
    with transaction(tuned.sessions):
        after = load(job.adapter, workshop=workshop)  # type: ignore[arg-type] - the row has the record's fields
    assert after.rank == 3
    for name, tensor in before.tensors.items():  # as good as not trained
        torch.testing.assert_close(after.tensors[name], tensor, atol=1e-6, rtol=0)
    loaded = workshop.models.base(tiny_base)
    assert loaded.folder == tiny_base

    sample_jobs([tuned.claim_for_sampling(job_id)], workshop=workshop)
    assert tuned.job(job_id).phase is Phase.SUCCEEDED
    assert row(tuned).merge_state == "needs_merge"  # nobody needed that


def test_both_ways_begin_with_the_same_function(tuned: Desk, workshop: Workshop):
    continued, new = (tuned.submit(settings=settings(start=start)) for start in ("continue", "new"))
    for job_id in (continued, new):
        adapt_job(tuned.claim_for_adapting(job_id), workshop=workshop)
    first, second = tuned.losses(continued), tuned.losses(new)
    assert first[0] == pytest.approx(second[0], abs=1e-4)  # before the first update
    assert abs(first[-1] - second[-1]) > 1e-3


def test_the_first_job_that_needs_it_merges_once_and_says_so(
    tuned: Desk, workshop: Workshop, tiny_base: Path, base_adapter: Path, tmp_path: Path
):
    jobs = [tuned.submit(settings=settings()) for _ in range(2)]
    adapt_job(tuned.claim_for_adapting(jobs[0]), workshop=workshop)
    (merged,) = (workshop.work_dir / "merged-models").iterdir()
    changed = (merged / "model.safetensors").stat().st_mtime_ns
    adapt_job(tuned.claim_for_adapting(jobs[1]), workshop=workshop)
    sample_jobs([tuned.claim_for_sampling(jobs[1])], workshop=workshop)
    assert tuned.job(jobs[1]).phase is Phase.SUCCEEDED
    assert (merged / "model.safetensors").stat().st_mtime_ns == changed
    assert tuned.losses(jobs[0]) == tuned.losses(jobs[1])

    registered = row(tuned)
    assert (registered.merge_state, registered.error) == ("merged", None)
    assert registered.manifest is not None
    assert registered.manifest["adapter"]["name"] == "tiny-adapter"
    by_hand = merge(tiny_base, base_adapter, tmp_path / "by-hand").folder
    assert load_file(merged / "model.safetensors").keys() == load_file(by_hand / "model.safetensors").keys()
    assert (merged / "model.safetensors").read_bytes() == (by_hand / "model.safetensors").read_bytes()


def test_prepare_merges_before_any_job_asks(tuned: Desk, workshop: Workshop):
    prepare("tuned", sessions=tuned.sessions, bases=workshop.bases)
    assert row(tuned).merge_state == "merged"
    assert len(list((workshop.work_dir / "merged-models").iterdir())) == 1
    with transaction(tuned.sessions) as session:
        assert "tuned" not in BaseModelRepository(session).waiting()


def test_an_adapter_that_does_not_fit_is_recorded_and_fails_the_job(
    desk: Desk, workshop: Workshop, tiny_qwen2: Path, base_adapter: Path
):
    with transaction(desk.sessions) as session:
        BaseModelRepository(session).register("tuned", str(tiny_qwen2), adapter_source=str(base_adapter / "nowhere"))
    job_id = desk.submit(settings=settings())
    adapt_job(desk.claim_for_adapting(job_id), workshop=workshop)
    assert (desk.job(job_id).phase, desk.job(job_id).error_code) == (Phase.FAILED, "base_model_error")
    assert row(desk).merge_state == "failed"
    assert "nowhere" in (row(desk).error or "")


def test_two_workers_that_merge_at_once_both_end_well(tuned: Desk, workshop: Workshop, monkeypatch: pytest.MonkeyPatch):
    base = tuned.claim_for_adapting(tuned.submit(settings=settings())).job.base_model
    faster = BaseFolders(workshop.work_dir)

    def merge_late(*folders: Path) -> object:
        monkeypatch.undo()
        faster.merged(base)
        return merge(*folders)

    monkeypatch.setattr("worker.base_folders.merge", merge_late)
    assert workshop.bases.merged(base) == faster.merged(base)


def test_a_name_registered_anew_changes_neither_a_job_under_way_nor_its_own_state(
    tuned: Desk, workshop: Workshop, tiny_base: Path, base_adapter: Path, tmp_path: Path
):
    job_id = tuned.submit(settings=settings())
    another = shutil.copytree(base_adapter, tmp_path / "another")
    with transaction(tuned.sessions) as session:
        BaseModelRepository(session).register("tuned", str(tiny_base), adapter_source=str(another))
    adapt_job(tuned.claim_for_adapting(job_id), workshop=workshop)
    assert tuned.job(job_id).phase is Phase.ADAPTED
    assert row(tuned).merge_state == "needs_merge"


def waited(desk: Desk) -> None:
    """As if the time were over after which the base model is to be looked at again."""
    with transaction(desk.sessions) as session:
        session.execute(update(BaseModelRow).values(look_again_at=lease_until(-1.0)))


def is_waiting(desk: Desk) -> bool:
    with transaction(desk.sessions) as session:
        return "tuned" in BaseModelRepository(session).waiting()


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), MemoryError("too big"), BaseModelUnavailable("hub: timed out")]
)
def test_what_may_pass_is_tried_again_later_but_not_for_ever(
    tuned: Desk, workshop: Workshop, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("worker.base_folders.merge", fail)
    for attempt in range(1, MAX_MERGE_ATTEMPTS + 1):
        prepare("tuned", sessions=tuned.sessions, bases=workshop.bases)
        assert row(tuned).merge_attempts == attempt
        assert str(error) in (row(tuned).error or "")
        assert not is_waiting(tuned)  # not at once
        assert row(tuned).merge_state == ("needs_merge" if attempt < MAX_MERGE_ATTEMPTS else "failed")
        waited(tuned)
        assert is_waiting(tuned) == (attempt < MAX_MERGE_ATTEMPTS)


def test_what_has_passed_is_forgotten(tuned: Desk, workshop: Workshop, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("worker.base_folders.merge", fail)
        prepare("tuned", sessions=tuned.sessions, bases=workshop.bases)
    waited(tuned)
    prepare("tuned", sessions=tuned.sessions, bases=workshop.bases)
    assert (row(tuned).merge_state, row(tuned).error, row(tuned).look_again_at) == ("merged", None, None)


def test_a_merge_that_every_worker_is_lost_over_has_failed(tuned: Desk):
    for _ in range(MAX_MERGE_ATTEMPTS):
        with transaction(tuned.sessions) as session:
            assert BaseModelRepository(session).begin_merge("tuned", lease_s=-1.0) is not None
    assert is_waiting(tuned)
    with transaction(tuned.sessions) as session:
        assert BaseModelRepository(session).begin_merge("tuned", lease_s=-1.0) is None
    assert (row(tuned).merge_state, is_waiting(tuned)) == ("failed", False)
    assert "workers were lost" in (row(tuned).error or "")


@pytest.mark.parametrize(
    ("adaptation", "pointer"),
    [
        ({"lora_rank": 4}, "/settings/adaptation/lora_rank"),
        ({"lora_alpha": 5}, "/settings/adaptation/lora_alpha"),
        ({"use_rslora": True}, "/settings/adaptation/use_rslora"),
        ({"target_modules": ["q_proj"]}, "/settings/adaptation/target_modules"),
    ],
)
def test_continue_refuses_another_shape_than_the_adapter_has(tuned: Desk, adaptation: dict[str, Any], pointer: str):
    with pytest.raises(SettingsConflict) as refused:
        tuned.submit(settings=settings(start="continue", **adaptation))
    assert [fault[0] for fault in refused.value.faults] == [pointer]


def test_continue_takes_the_same_shape_said_again(tuned: Desk):
    same = {"lora_rank": 3, "lora_alpha": 6.0, "use_rslora": False, "target_modules": ["v_proj", "q_proj"]}
    tuned.submit(settings=settings(start="continue", **same))


def test_continue_needs_an_adapter(desk: Desk):
    with pytest.raises(SettingsConflict, match="without an adapter") as refused:
        desk.submit(settings={**QUICK, "adaptation": {"start": "continue"}})
    assert refused.value.faults[0][0] == "/settings/adaptation/start"


def test_a_downloaded_archive_is_as_good_as_a_folder(
    desk: Desk, workshop: Workshop, tiny_base: Path, tmp_path: Path, new_workshop: Callable[..., Workshop]
):
    first = desk.submit()
    adapt_job(desk.claim_for_adapting(first), workshop=workshop)
    adapter = desk.job(first).adapter
    assert adapter is not None
    archive = workshop.artifacts.path(adapter.artifact_key)
    with transaction(desk.sessions) as session:
        BaseModelRepository(session).register(
            "tuned", str(tiny_base), adapter_source=str(archive), adapter_config=adapter.config
        )
    second = desk.submit(settings=settings(start="continue"))
    adapt_job(desk.claim_for_adapting(second), workshop=workshop)
    assert desk.job(second).phase is Phase.ADAPTED
    assert desk.losses(second)[0] < desk.losses(first)[0]
