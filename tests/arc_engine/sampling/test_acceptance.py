"""Adapters against a base of two layers, written without torch."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from arc_engine.errors import AdapterRefused, BaseModelError
from arc_engine.sampling.acceptance import check_adapter
from arc_engine.sampling.protocol import AdapterFolder
from arc_engine.sampling.weight_files import adaptable_layer_ends, base_shapes

pytestmark = pytest.mark.fast

PLAIN = {
    "peft_type": "LORA",
    "r": 8,
    "lora_alpha": 16,
    "bias": "none",
    "use_dora": False,
    "init_lora_weights": True,
    "target_modules": ["up_proj", "down_proj"],
}
BASE_SHAPES = {
    "model.embed_tokens.weight": (50, 6),
    "model.layers.0.up_proj.weight": (10, 6),
    "model.layers.0.down_proj.weight": (6, 10),
    "model.layers.0.norm.weight": (6,),
    "lm_head.weight": (50, 6),
}
LAYERS = {"model.layers.0.up_proj": (10, 6), "model.layers.0.down_proj": (6, 10)}

Tensors = dict[str, np.ndarray]


def zeros(shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def matrices(layers: Mapping[str, tuple[int, int]] = LAYERS, *, rank: int = 8, prefix: str = "") -> Tensors:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (num_out, num_in) in layers.items():
        shapes[f"base_model.model.{prefix}{layer}.lora_A.weight"] = (rank, num_in)
        shapes[f"base_model.model.{prefix}{layer}.lora_B.weight"] = (num_out, rank)
    return zeros(shapes)


def adapter_with(folder: Path, *, config: object = PLAIN, tensors: Tensors | None = None) -> AdapterFolder:
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(matrices() if tensors is None else tensors, folder / "adapter_model.safetensors")
    return AdapterFolder("of job 7", folder, rank=8)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    save_file(zeros(BASE_SHAPES), folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"use_rslora": True},
        {"init_lora_weights": "gaussian"},
        {"target_modules": ["layers.0.up_proj", "model.layers.0.down_proj"]},
        {"target_modules": "all-linear"},
        {"target_modules": r".*_proj"},
        {"lora_alpha": 0.5},
        {"layers_to_transform": None, "layers_pattern": None, "exclude_modules": None, "use_bdlora": None},
        {"rank_pattern": {}, "alpha_pattern": {}, "layers_to_transform": [], "use_bdlora": False},
    ],
)
def test_plain_lora_is_accepted(changed: dict[str, object], base: Path, tmp_path: Path) -> None:
    check_adapter(adapter_with(tmp_path, config={**PLAIN, **changed}), base=base)


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
        ({"target_modules": ["up_proj"]}, r"target_modules do not mean model\.layers\.0\.down_proj"),
        ({"target_modules": ["proj"]}, "target_modules do not mean"),
        ({"target_modules": r".*up_proj"}, "down_proj"),
        *(({"lora_alpha": alpha}, "lora_alpha is") for alpha in (None, 0, -1, "16", True, math.inf, math.nan)),
        ({"layers_to_transform": [0]}, "layers_to_transform"),
        ({"layers_to_transform": 0}, "layers_to_transform"),
        ({"layers_pattern": "layers"}, "layers_pattern"),
        ({"exclude_modules": ["down_proj"]}, "exclude_modules"),
        ({"rank_pattern": {"up_proj": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"up_proj": 4}}, "alpha_pattern"),
        ({"use_bdlora": {"nblocks": 2}}, "use_bdlora"),
    ],
)
def test_what_is_more_than_plain_lora_is_refused_by_name(
    changed: dict[str, object], named: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(AdapterRefused, match=f"of job 7.*{named}"):
        check_adapter(adapter_with(tmp_path, config={**PLAIN, **changed}), base=base)


@pytest.mark.parametrize("config", [[], "LORA", None])
def test_a_configuration_that_is_no_object_is_refused(config: object, base: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterRefused):
        check_adapter(adapter_with(tmp_path, config=config), base=base)


def test_a_missing_or_broken_configuration_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterRefused, match=r"adapter_config\.json"):
        check_adapter(AdapterFolder("a", tmp_path, rank=8), base=base)
    (tmp_path / "adapter_config.json").write_bytes(b"\xff{")
    with pytest.raises(AdapterRefused, match=r"adapter_config\.json"):
        check_adapter(AdapterFolder("a", tmp_path, rank=8), base=base)


HEADER_OF_HALF = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a zip file, or whatever",
        b"\x08\0\0\0\0\0\0\0not json",
        b"\xff" * 64,
        len(HEADER_OF_HALF).to_bytes(8, "little") + HEADER_OF_HALF + bytes(4),
    ],
    ids=["empty", "other format", "no header", "huge header", "shape against size"],
)
def test_a_file_that_is_no_safetensors_file_is_refused(content: bytes, base: Path, tmp_path: Path) -> None:
    adapter = adapter_with(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(AdapterRefused, match=r"of job 7.*weights file is broken"):
        check_adapter(adapter, base=base)


@pytest.mark.parametrize("kept", [3, 100, -1000, -1])
def test_a_truncated_file_is_refused(kept: int, base: Path, tmp_path: Path) -> None:
    adapter = adapter_with(tmp_path)
    whole = (tmp_path / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter_model.safetensors").write_bytes(whole[:kept])
    with pytest.raises(AdapterRefused, match="weights file is broken"):
        check_adapter(adapter, base=base)


def without_b() -> Tensors:
    return {name: tensor for name, tensor in matrices().items() if "up_proj.lora_B" not in name}


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        (matrices(rank=4), r"has the shape \[4, 10\], \[8, 10\] is due"),
        (matrices({"model.layers.0.up_proj": (10, 8)}), r"up_proj has the shape \[8, 8\], \[8, 6\] is due"),
        (matrices({"model.layers.0.up_proj": (12, 6)}), r"matrix B .* \[12, 8\], \[10, 8\] is due"),
        (matrices({"model.layers.1.up_proj": (10, 6)}), r"changes model\.layers\.1\.up_proj"),
        (matrices(prefix="text."), r"changes text\.model"),
        (without_b(), "up_proj has the matrix A alone"),
        ({}, "no matrices"),
        (zeros({"base_model.model.model.embed_tokens.lora_embedding_A": (8, 50)}), "lora_embedding_A"),
        (zeros({"model.layers.0.up_proj.weight": (10, 6)}), "which is no LoRA matrix"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_matrices_of_another_base_or_rank_are_refused(tensors: Tensors, named: str, base: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterRefused, match=named):
        check_adapter(adapter_with(tmp_path, tensors=tensors), base=base)


@pytest.mark.parametrize("layer", ["lm_head", "model.embed_tokens", "model.layers.0.norm"])
def test_only_linear_layers_below_the_output_layer_may_change(layer: str, base: Path, tmp_path: Path) -> None:
    end = layer.rpartition(".")[2]
    tensors = matrices({layer: (50, 6)})
    if end == "embed_tokens":
        tensors = {name.replace("lora_", "lora_embedding_"): tensor for name, tensor in tensors.items()}
    adapter = adapter_with(tmp_path, config={**PLAIN, "target_modules": [end]}, tensors=tensors)
    with pytest.raises(AdapterRefused, match=end):
        check_adapter(adapter, base=base)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_that_are_not_finite_are_refused(value: float, dtype: type, base: Path, tmp_path: Path) -> None:
    tensors = {name: tensor.astype(dtype) for name, tensor in matrices().items()}
    check_adapter(adapter_with(tmp_path, tensors=tensors), base=base)
    tensors["base_model.model.model.layers.0.down_proj.lora_A.weight"][3, 9] = value
    with pytest.raises(AdapterRefused, match=r"down_proj\.lora_A\.weight has values that are not finite"):
        check_adapter(adapter_with(tmp_path, tensors=tensors), base=base)


def write_bfloat16(path: Path, value: np.float32) -> None:
    """The adapter with this value everywhere, in a type that numpy does not have."""
    upper_half = int(value.view(np.uint32)) >> 16
    header, data = {}, b""
    for name, tensor in matrices().items():
        values = np.full(tensor.shape, upper_half, "<u2").tobytes()
        offsets = [len(data), len(data) + len(values)]
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": offsets}
        data += values
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)


def test_bfloat16_is_read_as_well(base: Path, tmp_path: Path) -> None:
    adapter = adapter_with(tmp_path)
    for finite in (0.0, -1.5, 3e38):
        write_bfloat16(tmp_path / "adapter_model.safetensors", np.float32(finite))
        check_adapter(adapter, base=base)
    for infinite in (np.nan, np.inf, -np.inf):
        write_bfloat16(tmp_path / "adapter_model.safetensors", np.float32(infinite))
        with pytest.raises(AdapterRefused, match="not finite"):
            check_adapter(adapter, base=base)


def test_integers_are_refused(base: Path, tmp_path: Path) -> None:
    tensors = {name: tensor.astype(np.int8) for name, tensor in matrices().items()}
    with pytest.raises(AdapterRefused, match="I8"):
        check_adapter(adapter_with(tmp_path, tensors=tensors), base=base)


def test_a_base_in_shards_is_compared_with(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    names = sorted(BASE_SHAPES)
    weight_map = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(names)}
    for file in set(weight_map.values()):
        save_file(zeros({n: BASE_SHAPES[n] for n in names if weight_map[n] == file}), shards / file)
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert base_shapes(shards) == BASE_SHAPES
    check_adapter(adapter_with(tmp_path), base=shards)
    with pytest.raises(AdapterRefused, match="is due"):
        check_adapter(adapter_with(tmp_path, tensors=matrices({"model.layers.0.up_proj": (10, 7)})), base=shards)


def test_a_base_in_other_files_is_not_compared_with(tmp_path: Path) -> None:
    check_adapter(adapter_with(tmp_path, tensors=matrices({"x.up_proj": (3, 3)})), base=tmp_path / "gguf")


@pytest.mark.parametrize("index", ["[]", "{}", "not json", '{"weight_map": {"a": "missing.safetensors"}}'])
def test_a_broken_base_is_not_the_adapter_s_fault(index: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(BaseModelError):
        check_adapter(adapter_with(tmp_path), base=tmp_path)


def test_adaptable_layers_are_told_from_embeddings_and_experts(base: Path, tmp_path: Path) -> None:
    assert adaptable_layer_ends(base) == ["down_proj", "up_proj"]
    assert adaptable_layer_ends(tmp_path) is None
    with_experts = {**BASE_SHAPES, "model.layers.0.experts.0.up_proj.weight": (4, 4)}
    save_file(zeros(with_experts), tmp_path / "model.safetensors")
    assert adaptable_layer_ends(tmp_path) is None
