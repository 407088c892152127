"""The adapter: what an adaptation leaves behind."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from arc_engine.base_models.plain_lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_plain_lora
from arc_engine.errors import BaseModelError

TENSOR_NAME: Final = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_[AB]\.weight")


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """LoRA weights in PEFT's own form, and nothing else."""

    config: dict[str, Any]
    """What PEFT writes as `adapter_config.json`."""
    tensors: dict[str, torch.Tensor]
    """Float32 on the CPU, by PEFT's names, whatever the precision of the base model: as they were trained."""

    @property
    def rank(self) -> int:
        """Rank of the LoRA matrices."""
        rank: int = self.config["r"]
        return rank

    @property
    def layers(self) -> tuple[str, ...]:
        """Names, in the base model, of the layers that the adapter changes."""
        matches = (TENSOR_NAME.fullmatch(name) for name in self.tensors)
        return tuple(sorted({match["layer"] for match in matches if match}))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what `save`, or PEFT, wrote; raises `BaseModelError` unless it is plain LoRA of one rank and scale."""
        config = read_plain_lora(folder)
        for option in ("rank_pattern", "alpha_pattern"):
            if config.get(option):
                raise BaseModelError(f"{folder}: adapters with {option} cannot be trained further")
        try:
            tensors = load_file(folder / ADAPTER_WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise BaseModelError(f"{folder}: {ADAPTER_WEIGHTS} cannot be read: {error}") from error
        if not tensors:
            raise BaseModelError(f"{folder}: {ADAPTER_WEIGHTS} holds no LoRA weights")
        for name in tensors:
            if not TENSOR_NAME.fullmatch(name):
                raise BaseModelError(f"{folder}: {name} is not a weight of plain LoRA")
        return cls(config=config, tensors={name: tensors[name].to(torch.float32) for name in sorted(tensors)})

    def save(self, folder: Path) -> None:
        """Writes a folder that `PeftModel.from_pretrained` and vLLM load; same adapter, same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ADAPTER_CONFIG).write_text(json.dumps(self.config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        save_file(self.tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
