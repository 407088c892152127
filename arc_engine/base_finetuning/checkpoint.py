"""Checkpoints of a run: the trained weights, AdamW's state and where the run stands, renamed into place."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from arc_engine.base_finetuning.stream import StreamState

KEPT: Final = 2
WEIGHTS: Final = "weights.safetensors"
OPTIMISER: Final = "optimiser.safetensors"
STATE: Final = "state.json"


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands. `tokens` without padding; `elapsed_s` of wall time over all its sittings."""

    fingerprint: str
    """Of recipe, data and base model: what a run may be resumed with."""
    step: int = 0
    tokens: int = 0
    elapsed_s: float = 0.0
    stream: StreamState = field(default_factory=StreamState)
    loss_scale: float = 1.0
    validated_step: int = -1
    """The last step after which the validation tasks were measured."""


def latest_checkpoint(out_dir: Path) -> Path | None:
    """The newest complete checkpoint of a run."""
    found = sorted((out_dir / "checkpoints").glob("step-*"))
    return found[-1] if found else None


def save_checkpoint(
    out_dir: Path, weights: Mapping[str, Tensor], optimiser: torch.optim.Optimizer, state: RunState
) -> Path:
    """Writes `checkpoints/step-N` and forgets all but the newest two; `weights` are the trained ones by name."""
    final = out_dir / "checkpoints" / f"step-{state.step:08d}"
    partial = final.with_name(f".partial-{final.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file({name: tensor.detach().contiguous() for name, tensor in weights.items()}, partial / WEIGHTS)
    save_file(_state_tensors(optimiser), partial / OPTIMISER)
    (partial / STATE).write_text(json.dumps(asdict(state)), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    partial.replace(final)
    for old in sorted(final.parent.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)
    return final


def load_checkpoint(checkpoint: Path, weights: Mapping[str, Tensor], optimiser: torch.optim.Optimizer) -> RunState:
    """Puts weights and optimiser state back in place and returns the run state."""
    stored = load_file(checkpoint / WEIGHTS)
    with torch.no_grad():
        for name, tensor in weights.items():
            tensor.copy_(stored[name])
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in load_file(checkpoint / OPTIMISER).items():
        index, _, name = key.partition(".")
        states.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
    return read_state(checkpoint)


def read_state(checkpoint: Path) -> RunState:
    """The run state of a checkpoint."""
    value = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    return RunState(**{**value, "stream": StreamState(**value["stream"])})


def _state_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{index}.{name}": torch.as_tensor(value).contiguous()
        for index, fields in optimiser.state_dict()["state"].items()
        for name, value in fields.items()
    }
