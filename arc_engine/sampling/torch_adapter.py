"""An adapter in the layers of a base model that is in memory, for as long as it is sampled from."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from arc_engine.base_models.loading import LoadedBase
from arc_engine.base_models.plain_lora import ADAPTER_WEIGHTS
from arc_engine.errors import AdapterRefused
from arc_engine.sampling.acceptance import check_adapter
from arc_engine.sampling.protocol import AdapterFolder


@contextmanager
def adapted(loaded: LoadedBase, adapter: AdapterFolder | None) -> Iterator[None]:
    """The base's model with the adapter in its layers (None: as it is); afterwards it is as it was, bit for bit.

    Raises `AdapterRefused` if the adapter cannot be read, is not plain LoRA, or does not fit the base.
    """
    if adapter is None:
        yield
        return
    check_adapter(adapter, base=loaded.folder)
    try:
        config = LoraConfig.from_pretrained(str(adapter.path))
        tensors = load_file(adapter.path / ADAPTER_WEIGHTS)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise AdapterRefused(f"adapter {adapter.name} cannot be read: {error}") from error
    config.inference_mode = True
    try:
        peft_model = PeftModel(loaded.model, config, low_cpu_mem_usage=True)  # draws no random matrices
    except ValueError as error:
        raise AdapterRefused(f"adapter {adapter.name} does not fit the base model: {error}") from error
    try:
        _load(peft_model, tensors, adapter=adapter)
        peft_model.eval()
        yield
    finally:
        peft_model.unload()


def _load(peft_model: PeftModel, tensors: dict[str, Tensor], *, adapter: AdapterFolder) -> None:
    try:
        result = set_peft_model_state_dict(peft_model, tensors, low_cpu_mem_usage=True)
    except (RuntimeError, KeyError, ValueError) as error:
        raise AdapterRefused(f"adapter {adapter.name} does not fit the base model: {error}") from error
    missing = [name for name in result.missing_keys if "lora_" in name]
    if missing or result.unexpected_keys:
        raise AdapterRefused(
            f"adapter {adapter.name} does not fit the base model: missing {missing[:3]}, "
            f"unexpected {list(result.unexpected_keys)[:3]}"
        )
