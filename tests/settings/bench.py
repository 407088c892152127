"""Runs jobs the way a worker does, on tiny models, and writes down everything that a setting could change.

The jobs go through a real database and through `worker.pipeline`. Training is watched where a run begins, where it
takes its batches and where the model's first layer is computed, sampling where the sampler is asked.
"""

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import safetensors.torch
import torch
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from arc_engine.adaptation import run as running
from arc_engine.adaptation.decoders import llama
from arc_engine.settings import SolveSettings
from arc_engine.tasks import parse_task
from jobs.artifacts import ArtifactStore
from jobs.database import SessionFactory, transaction
from jobs.repositories import CandidateRepository, ClaimRepository, JobRepository, StepRepository
from jobs.submission import submit
from tests.settings.facets import BySteps, Observation, Stream
from tests.settings.watched_sampler import Asked, WatchedSampler, sampling_facets
from worker import warm
from worker.pipeline import adapt_job, sample_jobs
from worker.record import JobRecord
from worker.workshop import Workshop

LEASE_S = 60.0
TIMES = {"adapt_s", "sample_s", "compute_s"}
HALVES = ("lora_a", "lora_b")


def task(*colours: int) -> dict[str, Any]:
    """Two colours swapped: 3 pairs of 3x3 cells, 25 tokens each, that look different under every symmetry."""
    grids = [[[c, 0, c], [0, 9, 0], [0, 0, 8]] for c in colours]
    pairs = [{"input": grid, "output": [[9 - cell for cell in row] for row in grid]} for grid in grids]
    return {"train": pairs[:-1], "test": [pairs[-1]]}


TASKS = {"a": task(1, 2, 3, 4), "b": task(5, 6, 7, 1), "c": task(3, 6, 4, 2)}


@dataclass(slots=True)
class Training:
    """One run of the training loop, as seen from inside."""

    initial_weights: dict[str, str]
    adapter_dtypes: set[torch.dtype]
    base_dtype: torch.dtype
    forwards: int = 0
    batches: list[list[Any]] = field(default_factory=list)


class Bench:
    """A workshop with a database. Runs that were made before are not made again."""

    def __init__(self, sessions: SessionFactory, folder: Path) -> None:
        self._sessions = sessions
        (folder / "work").mkdir()
        self._workshop = Workshop(
            models=warm.WarmModels(),
            artifacts=ArtifactStore(folder / "artifacts"),
            work_dir=folder / "work",
            job_timeout_s=600.0,
            shutting_down=threading.Event(),
        )
        self._trainings: list[Training] = []
        self._asked: list[Asked] = []
        self._runs: dict[str, Observation] = {}

    def run(self, settings: Mapping[str, Any], *, tasks: Sequence[str]) -> Observation:
        """The jobs of one batch, adapted one after the other and then answered."""
        key = json.dumps([settings, tasks], sort_keys=True)
        if key not in self._runs:
            self._runs[key] = self._run(settings, tasks)
        return self._runs[key]

    def _run(self, settings: Mapping[str, Any], tasks: Sequence[str]) -> Observation:
        with transaction(self._sessions) as session:
            parsed = {name: parse_task(TASKS[name]) for name in tasks}
            batch = submit(session, parsed, SolveSettings.model_validate(settings))
            job_ids = [job.id for job in batch.jobs]
        with self._watched():
            adapted = [self._adapt(job_id) for job_id in job_ids]
            sampled = [self._sample(job_id) for job_id in job_ids]
        records = [self._recorded(job_id) for job_id in job_ids]
        artifacts = [record.pop("artifact") for record in records]
        return Observation(
            tuple(
                {**record, **training, **sampling, "adapter_of_job": artifacts.index(artifact)}
                for record, training, sampling, artifact in zip(records, adapted, sampled, artifacts, strict=True)
            )
        )

    @contextmanager
    def _watched(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running, "adapter_form", self._watching_forms(running.adapter_form))
            patch.setattr(running.Run, "begin_step", self._watching_batches(running.Run.begin_step))
            patch.setattr(llama, "_layer", self._watching_layers(llama._layer))
            patch.setattr(LlamaDecoderLayer, "forward", self._watching_layers(LlamaDecoderLayer.forward))
            patch.setattr(warm, "make_sampler", self._watching_sampler(warm.make_sampler))
            yield
            self._workshop.models.close()

    def _watching_forms(self, adapter_form: Any) -> Any:
        def watched(base: Any, **options: Any) -> Any:
            form = adapter_form(base, **options)
            weights = {f"{name}.{half}": getattr(pair, half) for name, pair in form.trained.items() for half in HALVES}
            self._trainings.append(
                Training(
                    adapter_dtypes={matrix.dtype for matrix in weights.values()},
                    initial_weights={name: _hash(matrix) for name, matrix in weights.items()},
                    base_dtype=base.model.get_decoder().layers[0].mlp.up_proj.weight.dtype,
                )
            )
            return form

        return watched

    def _watching_batches(self, begin_step: Any) -> Any:
        def watched(run: running.Run) -> None:
            begin_step(run)
            rows = {
                row: example
                for portion in run._batch
                for row, example in zip(portion.rows, portion.examples, strict=True)
            }
            self._trainings[-1].batches.append([rows[row] for row in sorted(rows)])

        return watched

    def _watching_layers(self, layer: Any) -> Any:
        def watched(module: Any, *arguments: Any, **options: Any) -> Any:
            if self._trainings and module.self_attn.layer_idx == 0:
                self._trainings[-1].forwards += 1
            return layer(module, *arguments, **options)

        return watched

    def _watching_sampler(self, make_sampler: Any) -> Any:
        def watched(backend: str, **options: Any) -> WatchedSampler:
            return WatchedSampler(backend, make_sampler("torch", **options), self._asked)

        return watched

    def _adapt(self, job_id: UUID) -> dict[str, Any]:
        self._trainings.clear()
        with transaction(self._sessions) as session:
            claimed = ClaimRepository(session).claim_for_adapting(job_id, owner="bench", lease_s=LEASE_S)
        assert claimed is not None
        adapt_job(JobRecord(claimed, sessions=self._sessions, lease_s=LEASE_S), workshop=self._workshop)
        facets: dict[str, Any] = {}
        adaptation = claimed.settings.adaptation
        prefixes = ("common_",) if adaptation and adaptation.scope != "per_task" else ("", "common_")
        for prefix, training in zip(prefixes, reversed(self._trainings), strict=False):
            facets |= {f"{prefix}{name}": value for name, value in _training_facets(training).items()}
        return facets

    def _sample(self, job_id: UUID) -> dict[str, Any]:
        with transaction(self._sessions) as session:
            claimed = ClaimRepository(session).claim_for_sampling(job_id, owner="bench", lease_s=LEASE_S)
        if claimed is None:  # the job has failed
            return {}
        self._asked.clear()
        sample_jobs([JobRecord(claimed, sessions=self._sessions, lease_s=LEASE_S)], workshop=self._workshop)
        return sampling_facets(self._asked[-1]) if self._asked else {}

    def _recorded(self, job_id: UUID) -> dict[str, Any]:
        """What a client can see of the job."""
        with transaction(self._sessions) as session:
            job = JobRepository(session).get(job_id)
            steps = StepRepository(session).after(job_id)
            candidates = CandidateRepository(session).list(job_id)
            facets: dict[str, Any] = {
                "ending": (job.phase, job.error_code),
                "error_message": job.error_message,
                "max_steps": job.max_steps,
                "attempts": job.results,
                "candidates": [(row.grid, row.votes, row.score, row.views) for row in candidates],
                "artifact": None if job.adapter is None else job.adapter.artifact_key,
                **_usage_facets(job.usage),
            }
            for prefix, stage in (("", "task"), ("common_", "common")):
                of_stage = [step for step in steps if step.stage == stage]
                facets |= {f"{prefix}{name}": value for name, value in _step_facets(of_stage).items()}
            if job.adapter is not None:
                facets |= _adapter_facets(self._workshop.artifacts.path(job.adapter.artifact_key))
        return facets


def _hash(weights: torch.Tensor) -> str:
    return hashlib.sha256(
        repr(weights.shape).encode() + weights.detach().cpu().contiguous().numpy().tobytes()
    ).hexdigest()


def _training_facets(training: Training) -> dict[str, Any]:
    sequences = [example for batch in training.batches for example in batch]
    return {
        "initial_weights": training.initial_weights,
        "adapter_dtypes": training.adapter_dtypes,
        "base_dtype": training.base_dtype,
        "num_steps": len(training.batches),
        "sequences_per_step": Stream(len(batch) for batch in training.batches),
        "sequences": Stream(example.ids for example in sequences),
        "targets": Stream(example.is_target for example in sequences),
        "forwards_per_step": training.forwards / len(training.batches),
    }


def _step_facets(steps: Sequence[Any]) -> dict[str, Any]:
    if not steps:
        return {}
    first = steps[0].step
    later = [step for step in steps if step.step > first]
    return {
        "recorded_steps": tuple(step.step - first + 1 for step in steps),
        "learning_rates": BySteps({step.step - first: step.learning_rate for step in steps}),
        "tokens_per_step": BySteps({step.step - first: step.tokens for step in steps}),
        "first_loss": steps[0].loss,
        "first_grad_norm": steps[0].grad_norm,
        "later_losses": BySteps({step.step - first: step.loss for step in later}),
        "later_grad_norms": BySteps({step.step - first: step.grad_norm for step in later}),
    }


def _usage_facets(usage: Mapping[str, Any], *, prefix: str = "usage") -> dict[str, Any]:
    facets: dict[str, Any] = {}
    for name, value in usage.items():
        if name == "common":
            facets |= _usage_facets(value, prefix="common_usage")
        elif name not in TIMES:
            facets[f"{prefix}.{name}"] = value
    return facets


def _adapter_facets(archive: Path) -> dict[str, Any]:
    with zipfile.ZipFile(archive) as files:
        config = json.loads(files.read("adapter_config.json"))
        tensors = safetensors.torch.load(files.read("adapter_model.safetensors"))
    return {
        **{f"config.{name}": value for name, value in config.items()},
        "shapes": {name: tuple(weights.shape) for name, weights in tensors.items()},
        "final_norm": sum(float(weights.norm()) for weights in tensors.values()),
        "final_weights": {name: _hash(weights) for name, weights in tensors.items()},
    }
