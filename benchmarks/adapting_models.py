"""The models that adapters are trained for: arc-mini, and others' shapes with random weights."""

from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

import arc_engine
from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.base_models.precision import resolve_precision
from arc_engine.base_models.reading import read_base
from benchmarks.adapting_plan import ARC_MINI

FOLDER: Final = Path(arc_engine.__file__).parent / "models" / ARC_MINI
_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _qwen(**shape: Any) -> dict[str, Any]:  # noqa: ANN401 - a configuration's values
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "max_position_embeddings": 32768, **shape}


SHAPES: Final[dict[str, tuple[Any, dict[str, Any]]]] = {
    "smollm2-135m": (
        LlamaConfig,
        {
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "vocab_size": 49152,
            "tie_word_embeddings": True,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e5},
            "max_position_embeddings": 8192,
        },
    ),
    "qwen2.5-0.5b": (
        Qwen2Config,
        _qwen(
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=24,
            num_attention_heads=14,
            num_key_value_heads=2,
            vocab_size=151936,
            tie_word_embeddings=True,
        ),
    ),
    "qwen2.5-1.5b": (
        Qwen2Config,
        _qwen(
            hidden_size=1536,
            intermediate_size=8960,
            num_hidden_layers=28,
            num_attention_heads=12,
            num_key_value_heads=2,
            vocab_size=151936,
            tie_word_embeddings=True,
        ),
    ),
    "qwen2.5-7b": (
        Qwen2Config,
        _qwen(
            hidden_size=3584,
            intermediate_size=18944,
            num_hidden_layers=28,
            num_attention_heads=28,
            num_key_value_heads=4,
            vocab_size=152064,
            tie_word_embeddings=False,
        ),
    ),
}
"""As published, in transformers' own terms."""
TRIMMED_VOCABULARY: Final = 512


def load(model: str, *, device: str, full_vocabulary: bool = False) -> LoadedBase:
    """The model in the precision that the service takes on the device: float32 on a processor, bfloat16 on a GPU.

    All of them read arc-mini's tokens, so that the sequences are the same. A shape's vocabulary is trimmed unless it is
    to be full: an output layer for 150,000 tokens would be most of what a small model's ordinary loss computes.
    """
    if model == ARC_MINI:
        return load_base(FOLDER, device=device)
    kind, shape = SHAPES[model]
    config = kind(**shape if full_vocabulary else {**shape, "vocab_size": TRIMMED_VOCABULARY})
    precision = resolve_precision("auto", device=device)
    torch.manual_seed(0)
    with torch.device(device):
        weights = AutoModelForCausalLM.from_config(config, dtype=_DTYPES[precision])
    return LoadedBase(
        folder=Path(model),
        model=weights.eval().requires_grad_(requires_grad=False),
        tokenizer=read_base(FOLDER).tokenizer,
        device=device,
        precision=precision,
        max_positions=config.max_position_embeddings,
    )
