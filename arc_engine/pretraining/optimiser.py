"""Muon and AdamW side by side, and the learning-rate schedule.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) orthogonalises the momentum of every weight matrix
inside the blocks; embeddings, head and norms are AdamW's. Small models learn to copy in about half the tokens this way.
"""

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch.optim import AdamW
from transformers import LlamaForCausalLM

from arc_engine.pretraining.muon import StackedMuon
from arc_engine.pretraining.recipe import Optimisation


def build_optimisers(
    model: LlamaForCausalLM, settings: Optimisation, *, accelerator: Accelerator | None = None
) -> dict[str, torch.optim.Optimizer]:
    """Both optimisers by name; together they hold every parameter once. All processes share the work of Muon."""
    matrices = [parameter for parameter in model.model.layers.parameters() if parameter.ndim == 2]  # noqa: PLR2004
    held = set(map(id, matrices))
    rest = [parameter for parameter in model.parameters() if id(parameter) not in held]
    return {
        "muon": StackedMuon(
            matrices, lr=settings.muon_learning_rate, momentum=settings.muon_momentum, accelerator=accelerator
        ),
        "adamw": AdamW(rest, lr=settings.adamw_learning_rate, betas=settings.adamw_betas, weight_decay=0.0, fused=True),
    }


def learning_rate_factor(settings: Optimisation, *, step: int, progress: float) -> float:
    """Rises over the warm-up steps, stays at 1, falls to 0 from `decay_from` to the end of the budget."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    left = (1.0 - progress) / max(1e-9, 1.0 - settings.decay_from)
    return max(0.0, min(warm, left, 1.0))


def set_learning_rates(optimisers: dict[str, torch.optim.Optimizer], settings: Optimisation, *, factor: float) -> None:
    """Both peak rates times `factor`."""
    for name, peak in (("muon", settings.muon_learning_rate), ("adamw", settings.adamw_learning_rate)):
        for group in optimisers[name].param_groups:
            group["lr"] = peak * factor


def state_tensors(optimisers: dict[str, torch.optim.Optimizer]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every state tensor under the name `optimiser.parameter.field`."""
    for name, optimiser in optimisers.items():
        for index, fields in optimiser.state_dict()["state"].items():
            for field, value in fields.items():
                yield f"{name}.{index}.{field}", torch.as_tensor(value)


def load_state_tensors(optimisers: dict[str, torch.optim.Optimizer], tensors: dict[str, torch.Tensor]) -> None:
    """The inverse of `state_tensors`."""
    states: dict[str, dict[int, dict[str, torch.Tensor]]] = {name: {} for name in optimisers}
    for key, tensor in tensors.items():
        name, index, field = key.split(".")
        states[name].setdefault(int(index), {})[field] = tensor
    for name, optimiser in optimisers.items():
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": states[name], "param_groups": groups})
