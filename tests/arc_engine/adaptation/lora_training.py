"""What the tests of LoRA layers share: a short training, and everything that it could leave changed in a base."""

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.lora import export, lora_layers
from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.settings import AdaptationSettings

INITS = ("default", "gaussian", "orthogonal", "pissa", "pissa_niter_4", "olora")
SHIFTING = ("pissa", "pissa_niter_4", "olora")
IDS = torch.randint(5, 60, (3, 40), generator=torch.Generator().manual_seed(0))


def settings_with(**values: Any) -> AdaptationSettings:
    return AdaptationSettings.model_validate({"lora_rank": 4, "lora_alpha": 8.0, "seed": 7, **values})


def train(model: Any, *, num_steps: int = 6, learning_rate: float = 3e-3) -> list[float]:
    """The losses of a few AdamW steps of whatever is trainable in `model`, as `adapt` takes them."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.01)
    losses = []
    for _ in range(num_steps):
        loss = model(input_ids=IDS, labels=IDS).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def logits(model: Any) -> torch.Tensor:
    """`[batch, length, vocab]`, without dropout."""
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def trained(
    base: LoadedBase, settings: AdaptationSettings, *, initial: Adapter | None = None
) -> tuple[Adapter, list[float], torch.Tensor]:
    """The adapter, the losses, and the logits at the end."""
    with lora_layers(base, settings=settings, initial=initial) as peft_model:
        losses = train(base.model)
        return export(peft_model, base_name=base.folder.name), losses, logits(base.model)


def logits_in_plain_peft(base_folder: Path, adapter_folder: Path) -> torch.Tensor:
    base = load_base(base_folder, device="cpu")
    return logits(PeftModel.from_pretrained(base.model, adapter_folder).eval())


def fingerprint(base: LoadedBase) -> tuple[Any, ...]:
    """Everything about a model that an adaptation could leave changed."""
    modules = [
        (name, id(module), type(module), module.training, len(module._forward_hooks), "forward" in vars(module))
        for name, module in base.model.named_modules()
    ]
    grads = [(name, weight.requires_grad, weight.grad) for name, weight in base.model.named_parameters()]
    return weights_hash(base), modules, grads, hasattr(base.model, "peft_config")


def weights_hash(base: LoadedBase) -> str:
    """Of all weights and buffers but LoRA's, whose layers call the weights that they wrap `base_layer`."""
    weights = hashlib.sha256()
    for tensors in (base.model.named_parameters(), base.model.named_buffers()):
        for name, tensor in tensors:
            if "lora_" not in name:
                weights.update(name.replace(".base_layer", "").encode())
                weights.update(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return weights.hexdigest()


def stir_global_randomness() -> None:
    """Puts the global generators where no adaptation leaves them."""
    random.seed(101)
    np.random.seed(102)
    torch.manual_seed(103)


def global_randomness() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
