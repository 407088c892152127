"""What a run trains: LoRA layers in a frozen base, or all weights of the base itself."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor

from arc_engine.adaptation.checkpointing import gradient_checkpointing
from arc_engine.adaptation.initialisation import own_randomness
from arc_engine.adaptation.lora import export, lora_layers
from arc_engine.base_finetuning.recipe import Recipe
from arc_engine.base_models.folders import copy_companions, stored_dtype
from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.base_models.precision import resolve_precision

ADAPTER_FOLDER: Final = "adapter"
MODEL_FOLDER: Final = "model"


@dataclass(frozen=True, slots=True, eq=False)
class Trainable:
    """A base model with some of its weights, or weights put into it, ready to be trained.

    The base is in evaluation mode and stays so: it has no dropout. That of the LoRA layers is on.
    """

    base: LoadedBase
    weights: dict[str, Tensor]
    """The trained weights by name, in float32."""
    peft_model: PeftModel | None
    in_bfloat16: bool
    """Whether matrices are multiplied in bfloat16 although the weights are float32."""
    seed: int

    @property
    def model(self) -> Any:  # noqa: ANN401 - transformers is untyped
        """The model whose forward pass the weights take part in."""
        return self.base.model

    @contextmanager
    def training(self, place: str) -> Iterator[None]:
        """Forward and backward pass of one batch; `place` seeds the dropout, so that a resumed run draws the same."""
        seed = random.Random(f"base fine-tuning dropout {self.seed} {place}").getrandbits(63)
        with own_randomness(seed, device=self.base.device):
            yield

    def forward(self) -> AbstractContextManager[None]:
        """Around every forward pass."""
        if not self.in_bfloat16:
            return nullcontext()
        device, _, _ = self.base.device.partition(":")
        return torch.autocast(device, dtype=torch.bfloat16)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Without dropout, for as long as the context lasts."""
        layers = [module.lora_dropout for module in self.model.modules() if isinstance(module, LoraLayer)]
        for layer in layers:
            layer.eval()
        try:
            yield
        finally:
            for layer in layers:
                layer.train()

    def save(self, out_dir: Path) -> Path:
        """Writes the adapter, or the model in the precision that its base is stored in; the folder of either."""
        if self.peft_model is not None:
            export(self.peft_model, base_name=self.base.folder.name).save(out_dir / ADAPTER_FOLDER)
            return out_dir / ADAPTER_FOLDER
        folder, dtype = out_dir / MODEL_FOLDER, stored_dtype(self.base.folder)
        converted: dict[tuple[int, torch.Size], Tensor] = {}  # tied weights stay tied, so that they are written once
        state = {
            name: converted.setdefault((tensor.data_ptr(), tensor.shape), tensor.to(dtype))
            for name, tensor in self.model.state_dict().items()
        }
        self.model.config.dtype = dtype
        self.model.save_pretrained(folder, state_dict=state)
        copy_companions(self.base.folder, folder)
        return folder


@contextmanager
def trainable(folder: Path, recipe: Recipe, *, device: str) -> Iterator[Trainable]:
    """The model in `folder` made trainable as the recipe says, for as long as the context lasts.

    Raises `BaseModelError`, `PrecisionUnsupported`, and `LoraUnsupported` for layers that the model has not.
    """
    full = recipe.lora is None
    # All weights are trained in float32 whatever they are stored in: updates would vanish in eight bits.
    base = load_base(folder, device=device, precision="float32" if full else recipe.precision)
    in_bfloat16 = full and resolve_precision(recipe.precision, device=base.device) == "bfloat16"
    with ExitStack() as stack:
        peft_model = None
        if recipe.lora is None:
            base.model.requires_grad_(requires_grad=True)
        else:
            peft_model = stack.enter_context(lora_layers(base, settings=recipe.lora.settings(seed=recipe.seed)))
        for module in base.model.modules():
            if isinstance(module, LoraLayer):
                module.lora_dropout.train()
        if recipe.gradient_checkpointing:
            stack.enter_context(gradient_checkpointing(base))
        weights = {name: weights for name, weights in base.model.named_parameters() if weights.requires_grad}
        yield Trainable(base, weights, peft_model, in_bfloat16=in_bfloat16, seed=recipe.seed)
