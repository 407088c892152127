"""Jobs through the running stack: HTTP, broker, worker, model and all, with a model too small to matter."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from api.schemas import BatchDetail
from arc_engine.datasets.sources import TaskJson
from arc_engine.pretraining.tokenizer import VOCABULARY, save_tokenizer
from arcadapt.client import Client
from arcadapt.stack.database import register_base_model
from arcadapt.stack.folder import StackFolder
from benchmarks.pipeline_service import ServiceFailed, local_stack
from jobs.claims import BaseModelSource

LENGTHS: Final = (1, 10, 100)
POLL_S: Final = 0.5
MAX_POSITIONS: Final = 4096
MODEL: Final = "tiny"
SETTINGS: Final[Mapping[str, Any]] = {
    "base_model": MODEL,
    "adaptation": {"max_steps": 2, "batch_size": 1},
    "sampling": {"backend": "torch", "num_views": 1, "max_new_tokens": 4},
}


def measure_stack(tasks: Mapping[str, TaskJson], *, lengths: Sequence[int], folder: Path) -> list[dict[str, Any]]:
    """What jobs take in a stack that is started in the folder, with one worker."""
    base = _tiny_model(folder / MODEL)
    with local_stack(folder, num_workers=1) as url, Client(url) as client:
        running = StackFolder.of(folder).announced()
        if running is None:
            raise ServiceFailed("the stack has gone")
        register_base_model(running.database_url, name=MODEL, base=BaseModelSource(source=str(base)))
        return measure_jobs(client, tasks, lengths=lengths)


def measure_jobs(
    client: Client, tasks: Mapping[str, TaskJson], *, lengths: Sequence[int], settings: Mapping[str, Any] = SETTINGS
) -> list[dict[str, Any]]:
    """Milliseconds per job from the request to the last answer, and how many of them the worker adapted and sampled."""
    _solved(client, tasks, num_jobs=2, settings=settings)  # the worker loads the model
    rows: list[dict[str, Any]] = []
    for length in lengths:
        rows.append(_row(client, _solved(client, tasks, num_jobs=length, settings=settings)))
        print(f"{length} jobs through the stack: {rows[-1]['ms']} ms a job", flush=True)
    return rows


def _solved(
    client: Client, tasks: Mapping[str, TaskJson], *, num_jobs: int, settings: Mapping[str, Any]
) -> list[BatchDetail]:
    """Batches of so many jobs, submitted one after the other without waiting, once all are over."""
    batch_ids = []
    for first in range(0, num_jobs, len(tasks)):
        chosen = dict(islice(tasks.items(), num_jobs - first))
        batch_ids.append(client.solve(chosen, settings=settings).batch_id)
    return [client.wait_for_batch(batch_id, poll_s=POLL_S) for batch_id in batch_ids]


def _row(client: Client, batches: Sequence[BatchDetail]) -> dict[str, Any]:
    jobs = [client.job(job.id) for batch in batches for job in batch.jobs]
    failed = [f"{job.task_id}: {job.error}" for job in jobs if job.error is not None]
    if failed:
        raise ServiceFailed(", ".join(failed))
    began = min(batch.created_at for batch in batches)
    ended = max(job.finished_at for job in jobs if job.finished_at is not None)
    return {
        "jobs": len(jobs),
        "ms": round(1000 * (ended - began).total_seconds() / len(jobs), 1),
        "adapting_ms": round(1000 * fmean(float(str(job.usage["adapt_s"])) for job in jobs), 1),
        "sampling_ms": round(1000 * fmean(float(str(job.usage["sample_s"])) for job in jobs), 1),
    }


def _tiny_model(folder: Path) -> Path:
    """A Llama of 90,000 random parameters that reads grids character by character."""
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=MAX_POSITIONS,
        bos_token_id=VOCABULARY["<bos>"],
        eos_token_id=VOCABULARY["<eos>"],
        pad_token_id=VOCABULARY["<pad>"],
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    save_tokenizer(folder, model_max_length=MAX_POSITIONS)
    return folder
