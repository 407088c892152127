import json
from pathlib import Path

import pytest

from arc_engine.errors import AdapterRefused
from arc_engine.sampling.acceptance import check_adapter
from arc_engine.sampling.protocol import AdapterFolder

PLAIN = {"peft_type": "LORA", "r": 8, "bias": "none", "use_dora": False, "init_lora_weights": True}


def adapter_with(config: object, folder: Path) -> AdapterFolder:
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").touch()
    return AdapterFolder("a", folder, rank=8)


@pytest.mark.parametrize("changed", [{}, {"use_rslora": True}, {"init_lora_weights": "gaussian"}])
def test_plain_lora_is_accepted(changed: dict[str, object], tmp_path: Path) -> None:
    check_adapter(adapter_with({**PLAIN, **changed}, tmp_path))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "biases"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"peft_type": "IA3"}, "not a LoRA adapter"),
        ({"r": 16}, "rank is 16, 8 was declared"),
        ({"r": None}, "rank"),
    ],
)
def test_what_is_more_than_plain_lora_is_refused_by_name(
    changed: dict[str, object], named: str, tmp_path: Path
) -> None:
    with pytest.raises(AdapterRefused, match=named):
        check_adapter(adapter_with({**PLAIN, **changed}, tmp_path))


@pytest.mark.parametrize("config", [[], "LORA", None])
def test_a_configuration_that_is_no_object_is_refused(config: object, tmp_path: Path) -> None:
    with pytest.raises(AdapterRefused):
        check_adapter(adapter_with(config, tmp_path))


def test_a_missing_or_broken_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterRefused, match=r"adapter_config\.json"):
        check_adapter(AdapterFolder("a", tmp_path, rank=8))
    (tmp_path / "adapter_config.json").write_bytes(b"\xff{")
    with pytest.raises(AdapterRefused, match=r"adapter_config\.json"):
        check_adapter(AdapterFolder("a", tmp_path, rank=8))
