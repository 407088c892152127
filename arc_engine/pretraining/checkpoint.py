"""Checkpoints of a pretraining run: safetensors and JSON, written beside and renamed into place."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from arc_engine.pretraining.batches import StreamState
from arc_engine.pretraining.optimiser import load_state_tensors, state_tensors

KEPT = 2


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands. `tokens` without padding; `elapsed_s` of wall time over all its sittings."""

    step: int
    tokens: int
    elapsed_s: float
    stream: StreamState
    fingerprint: str
    """Of the recipe."""


def latest_checkpoint(out_dir: Path) -> Path | None:
    """The newest complete checkpoint of a run."""
    found = sorted((out_dir / "checkpoints").glob("step-*"))
    return found[-1] if found else None


def save_checkpoint(
    out_dir: Path, model: LlamaForCausalLM, optimisers: dict[str, torch.optim.Optimizer], state: RunState
) -> Path:
    """Writes `checkpoints/step-N` and forgets all but the newest two."""
    final = out_dir / "checkpoints" / f"step-{state.step:08d}"
    partial = final.with_name(f".partial-{final.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, partial / "model.safetensors")
    save_file({name: t.contiguous() for name, t in state_tensors(optimisers)}, partial / "optimisers.safetensors")
    (partial / "state.json").write_text(json.dumps(asdict(state)), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    partial.replace(final)
    for old in sorted(final.parent.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)
    return final


def read_state(checkpoint: Path) -> RunState:
    """The run state of a checkpoint."""
    value = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    return RunState(**{**value, "stream": StreamState(**value["stream"])})


def load_checkpoint(
    checkpoint: Path, model: LlamaForCausalLM, optimisers: dict[str, torch.optim.Optimizer]
) -> RunState:
    """Puts weights and optimiser states back in place and returns the run state."""
    model.load_state_dict(load_file(checkpoint / "model.safetensors"))
    load_state_tensors(optimisers, load_file(checkpoint / "optimisers.safetensors"))
    return read_state(checkpoint)
