"""Which adapters can be sampled from: the same ones whichever backend there is."""

from arc_engine.base_models.plain_lora import read_plain_lora
from arc_engine.errors import AdapterRefused, BaseModelError
from arc_engine.sampling.protocol import AdapterFolder


def check_adapter(adapter: AdapterFolder) -> None:
    """Raises `AdapterRefused` unless the folder's configuration describes a plain LoRA adapter of the declared rank."""
    try:
        config = read_plain_lora(adapter.path)
    except BaseModelError as error:
        raise AdapterRefused(f"adapter {adapter.name}: {error}") from error
    if config.get("r") != adapter.rank:
        raise AdapterRefused(f"adapter {adapter.name}: its rank is {config.get('r')!r}, {adapter.rank} was declared")
