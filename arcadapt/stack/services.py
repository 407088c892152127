"""Our own processes in the stack: how the API, the worker and beat are started, and with which environment."""

import os
import re
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import arcadapt
from arcadapt.stack.child import ChildSpec
from arcadapt.stack.folder import StackFolder

NVIDIA_DEVICE: Final = re.compile(r"nvidia(\d+)")
WORKER_PATIENCE_S: Final = 30.0
"""A worker finishes the step it is in and gives its job back; loading a model cannot be interrupted."""


def service_environment(folder: StackFolder, *, database_url: str, broker_url: str) -> dict[str, str]:
    """The environment of the children; what the user has set for the artifacts and the scratch folder stays."""
    packages = str(Path(arcadapt.__file__).resolve().parents[1])
    inherited = os.environ.get("PYTHONPATH")
    models = os.environ.get("ARCADAPT_MODELS_DIR", "").strip()
    return {
        **os.environ,
        # The children run in the stack's folder; what the user calls ./models is beside the user.
        **({"ARCADAPT_MODELS_DIR": str(Path(models).resolve())} if models else {}),
        "ARCADAPT_DATABASE_URL": database_url,
        "ARCADAPT_BROKER_URL": broker_url,
        "ARCADAPT_ARTIFACTS_DIR": _absolute("ARCADAPT_ARTIFACTS_DIR", folder.artifacts),
        "ARCADAPT_WORK_DIR": _absolute("ARCADAPT_WORK_DIR", folder.work),
        # The children run the code that started them, whatever else is installed.
        "PYTHONPATH": packages if not inherited else os.pathsep.join((packages, inherited)),
        "PYTHONUNBUFFERED": "1",
        # Threads that wait for each other by spinning starve whatever else runs on the machine, and then each other.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
    }


def _absolute(variable: str, default: Path) -> str:
    return str(Path(os.environ.get(variable) or default).resolve())


def api_service(folder: StackFolder, *, listening: socket.socket, env: Mapping[str, str]) -> ChildSpec:
    """uvicorn on a socket that is already listening."""
    command = ("-m", "uvicorn", "--factory", "api.asgi:create", "--fd", str(listening.fileno()))
    return _service(
        "api", command, folder=folder, env=env, pass_fds=(listening.fileno(),), stopping=((signal.SIGTERM, 10.0),)
    )


def worker_service(folder: StackFolder, *, env: Mapping[str, str], name: str = "worker") -> ChildSpec:
    """A GPU worker: adapts and samples."""
    command = _celery("worker.app", name, "--queues", "adapt,sample,prepare")
    return _service(name, command, folder=folder, env=env, stopping=((signal.SIGTERM, WORKER_PATIENCE_S),))


def worker_services(folder: StackFolder, *, env: Mapping[str, str], num_workers: int) -> list[ChildSpec]:
    """So many workers side by side: each with a GPU of its own where there are several, and its share of the cores."""
    if num_workers == 1:
        return [worker_service(folder, env=env)]
    devices = _devices(env)
    threads = str(max(1, (os.cpu_count() or 1) // num_workers))
    workers = []
    for number in range(num_workers):
        own = {"OMP_NUM_THREADS": threads, **env}
        if devices:
            own["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
        workers.append(worker_service(folder, env=own, name=f"worker-{number + 1}"))
    return workers


def _devices(env: Mapping[str, str]) -> list[str]:
    """The GPUs that this machine, or the user, lets us use."""
    chosen = env.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [device.strip() for device in chosen.split(",") if device.strip()]
    found = (NVIDIA_DEVICE.fullmatch(path.name) for path in Path("/dev").glob("nvidia*"))
    return sorted((match[1] for match in found if match), key=int)


def beat_service(folder: StackFolder, *, env: Mapping[str, str]) -> ChildSpec:
    """Beat and what it triggers: the outbox relay and the reaper."""
    schedule = str(folder.beat / "schedule")
    command = _celery("worker.clock", "beat", "--queues", "maintenance", "--beat", "--schedule", schedule)
    return _service("beat", command, folder=folder, env=env, stopping=((signal.SIGTERM, 10.0),))


def _celery(app: str, name: str, *arguments: str) -> tuple[str, ...]:
    program = ("-m", "celery", "--app", app, "worker", "--hostname", f"{name}@%h")
    # Workers that talk among themselves: a second at the start, and warnings whenever one is busy training.
    alone = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    return (*program, "--pool", "solo", *alone, "--loglevel", "INFO", *arguments)


def _service(
    name: str,
    command: Sequence[str],
    *,
    folder: StackFolder,
    env: Mapping[str, str],
    stopping: Sequence[tuple[signal.Signals, float]],
    pass_fds: Sequence[int] = (),
) -> ChildSpec:
    return ChildSpec(
        name=name,
        command=(sys.executable, *command),
        log=folder.logs / f"{name}.log",
        # Not the user's folder: Python and Celery put the working directory on the import path, and a project may well
        # have folders named `api` or `jobs`.
        cwd=folder.root,
        env=env,
        stopping=stopping,
        pass_fds=pass_fds,
    )
