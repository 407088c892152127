"""The adapter: what an adaptation leaves behind."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from arc_engine.base_models.plain_lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS


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

    def save(self, folder: Path) -> None:
        """Writes a folder that `PeftModel.from_pretrained` and vLLM load; same adapter, same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ADAPTER_CONFIG).write_text(json.dumps(self.config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        save_file(self.tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
