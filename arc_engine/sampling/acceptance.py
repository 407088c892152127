"""Which adapters can be sampled from: the same ones whichever backend there is."""

import json
from typing import Any, Final

from arc_engine.errors import AdapterRefused
from arc_engine.sampling.protocol import AdapterFolder

# Other initialisations change the base model's weights too, when PEFT loads the adapter.
PLAIN_INITIALISATIONS: Final = (True, False, "gaussian", "orthogonal")
UNSUPPORTED: Final = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "layer_replication",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
)


def check_adapter(adapter: AdapterFolder) -> None:
    """Raises `AdapterRefused` unless the folder's configuration describes a plain LoRA adapter of the declared rank."""
    path = adapter.path / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterRefused(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise AdapterRefused(f"{path} is not an object")
    problems = _problems(config, adapter)
    if problems:
        raise AdapterRefused(f"adapter {adapter.name}: {'; '.join(problems)}")


def _problems(config: dict[str, Any], adapter: AdapterFolder) -> list[str]:
    problems = [f"{option} is not supported" for option in UNSUPPORTED if config.get(option)]
    if config.get("peft_type") != "LORA":
        problems.append(f"peft_type is {config.get('peft_type')!r}, not LORA")
    if config.get("bias", "none") != "none":
        problems.append(f"bias {config['bias']!r} is not supported")
    if config.get("init_lora_weights", True) not in PLAIN_INITIALISATIONS:
        problems.append(f"init_lora_weights {config['init_lora_weights']!r} changes the base model")
    if config.get("r") != adapter.rank:
        problems.append(f"its rank is {config.get('r')!r}, {adapter.rank} was declared")
    return problems
