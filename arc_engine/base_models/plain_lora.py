"""Which adapters can be folded into a base model: plain LoRA, and nothing that PEFT has built around it."""

import json
from pathlib import Path
from typing import Any, Final

from arc_engine.errors import BaseModelError

ADAPTER_CONFIG: Final = "adapter_config.json"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"

# Initialisations that leave the base weights as they are. The others (pissa, olora, corda, loftq, ...) move a part of
# the base into the adapter: its weights are differences to a base that we do not have.
HARMLESS_INITIALISATIONS: Final = (True, False, "gaussian", "orthogonal", "eva")
# What changes the model in other ways than W + (alpha / rank) B A.
REFUSED_OPTIONS: Final = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "use_qalora",
    "megatron_config",
)


def read_plain_lora(folder: Path) -> dict[str, Any]:
    """The configuration of the adapter in `folder`; raises `BaseModelError` unless it is plain LoRA as safetensors."""
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{folder} holds no readable {ADAPTER_CONFIG}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise BaseModelError(f"{folder}: the adapter is not a LoRA adapter")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise BaseModelError(f"{folder} holds no {ADAPTER_WEIGHTS}")
    initialisation = config.get("init_lora_weights", True)
    if initialisation not in HARMLESS_INITIALISATIONS:
        raise BaseModelError(
            f"{folder}: initialised by {initialisation}, which changes the base weights; "
            "save the adapter converted to plain LoRA (PEFT: path_initial_model_for_weight_conversion)"
        )
    if config.get("bias", "none") != "none":
        raise BaseModelError(f"{folder}: adapters that train biases cannot be merged")
    for option in REFUSED_OPTIONS:
        if config.get(option):
            raise BaseModelError(f"{folder}: adapters with {option} cannot be merged")
    return config
