"""How the stack's own processes are started."""

import os
from pathlib import Path

import pytest

from arcadapt.stack.folder import StackFolder
from arcadapt.stack.services import service_environment, worker_services
from jobs.config import models_folder

pytestmark = pytest.mark.fast

FOLDER = StackFolder(Path("/stack"))


def test_folders_of_the_user_are_where_the_user_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    for variable in ("ARCADAPT_MODELS_DIR", "ARCADAPT_ARTIFACTS_DIR", "ARCADAPT_WORK_DIR"):
        monkeypatch.setenv(variable, "./mine")
        environment = service_environment(FOLDER, database_url="d", broker_url="b")
        assert environment[variable] == str(tmp_path / "mine")


@pytest.mark.parametrize("unset", ["", " "])
def test_without_a_folder_of_models_there_is_none(monkeypatch: pytest.MonkeyPatch, unset: str):
    monkeypatch.setenv("ARCADAPT_MODELS_DIR", unset)
    environment = service_environment(FOLDER, database_url="d", broker_url="b")
    assert models_folder(environment) is None


def test_one_worker_has_the_whole_machine():
    (worker,) = worker_services(FOLDER, env={"CUDA_VISIBLE_DEVICES": "0,1"}, num_workers=1)
    assert worker.name == "worker"
    assert worker.env == {"CUDA_VISIBLE_DEVICES": "0,1"}


def test_several_workers_have_a_gpu_each_and_share_the_cores():
    workers = worker_services(FOLDER, env={"CUDA_VISIBLE_DEVICES": "3, GPU-5"}, num_workers=3)
    assert [worker.name for worker in workers] == ["worker-1", "worker-2", "worker-3"]
    assert [worker.env["CUDA_VISIBLE_DEVICES"] for worker in workers] == ["3", "GPU-5", "3"]
    assert {worker.env["OMP_NUM_THREADS"] for worker in workers} == {str(max(1, (os.cpu_count() or 1) // 3))}
    assert len({worker.log for worker in workers}) == 3
    assert all(f"{worker.name}@%h" in worker.command for worker in workers)


def test_what_the_user_has_set_stays():
    workers = worker_services(FOLDER, env={"OMP_NUM_THREADS": "7", "CUDA_VISIBLE_DEVICES": ""}, num_workers=2)
    assert [worker.env["OMP_NUM_THREADS"] for worker in workers] == ["7", "7"]
    assert [worker.env["CUDA_VISIBLE_DEVICES"] for worker in workers] == ["", ""]
