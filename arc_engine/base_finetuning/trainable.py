"""What a run trains: LoRA layers in a frozen base, or all weights of the base itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from peft import PeftModel
from torch import Tensor

from arc_engine.adaptation.lora import export, lora_layers
from arc_engine.base_finetuning.recipe import Recipe
from arc_engine.base_models.folders import copy_companions
from arc_engine.base_models.loading import LoadedBase

ADAPTER_FOLDER: Final = "adapter"
MODEL_FOLDER: Final = "model"


@dataclass(frozen=True, slots=True)
class Trainable:
    """A base model with some of its weights, or weights put into it, ready to be trained."""

    base: LoadedBase
    weights: dict[str, Tensor]
    """The trained weights by name."""
    peft_model: PeftModel | None

    @property
    def model(self) -> Any:  # noqa: ANN401 - transformers is untyped
        """The model whose forward pass the weights take part in."""
        return self.base.model

    def save(self, out_dir: Path) -> Path:
        """Writes the adapter, or the model, and returns its folder."""
        if self.peft_model is not None:
            export(self.peft_model, base_name=self.base.folder.name).save(out_dir / ADAPTER_FOLDER)
            return out_dir / ADAPTER_FOLDER
        folder = out_dir / MODEL_FOLDER
        self.base.model.save_pretrained(folder)
        copy_companions(self.base.folder, folder)
        return folder


@contextmanager
def trainable(base: LoadedBase, recipe: Recipe) -> Iterator[Trainable]:
    """`base` made trainable as the recipe says, for as long as the context lasts."""
    if recipe.lora is None:
        base.model.requires_grad_(requires_grad=True)
        yield Trainable(base, _trained(base.model), None)
        return
    with lora_layers(base, settings=recipe.lora.settings(seed=recipe.seed)) as peft_model:
        yield Trainable(base, _trained(base.model), peft_model)


def _trained(model: Any) -> dict[str, Tensor]:  # noqa: ANN401 - transformers is untyped
    return {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
