"""How the stack's own processes are started."""

import os
from pathlib import Path

import pytest

from arcadapt.stack.folder import StackFolder
from arcadapt.stack.services import worker_services

pytestmark = pytest.mark.fast

FOLDER = StackFolder(Path("/stack"))


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
