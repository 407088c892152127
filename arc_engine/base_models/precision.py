"""In which precision a base model can be held on this machine."""

from importlib.util import find_spec
from typing import Any, Final, Literal, TypeAlias

import torch
from transformers import BitsAndBytesConfig

from arc_engine.errors import PrecisionUnsupported
from arc_engine.settings import Precision

ResolvedPrecision: TypeAlias = Literal["float32", "bfloat16", "float16", "nf4"]

_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_precision(precision: Precision, *, device: str) -> ResolvedPrecision:
    """The precision that is meant: `auto` is bfloat16 on a GPU that has it, float32 elsewhere (processors without
    matrix units are slower in bfloat16).

    Raises `PrecisionUnsupported` if this machine cannot train in it.
    """
    has_bfloat16 = not device.startswith("cuda") or torch.cuda.is_bf16_supported()
    if precision == "auto":
        return "bfloat16" if device.startswith("cuda") and has_bfloat16 else "float32"
    if precision == "bfloat16" and not has_bfloat16:
        raise PrecisionUnsupported("this GPU does not compute in bfloat16; take float16")
    if precision == "nf4" and find_spec("bitsandbytes") is None:
        raise PrecisionUnsupported("precision nf4 needs bitsandbytes: pip install 'arcadapt[nf4]'")
    if precision == "nf4" and not device.startswith(("cuda", "cpu")):
        raise PrecisionUnsupported(f"precision nf4 works on NVIDIA GPUs and on processors, not on {device}")
    return precision


def loading_options(precision: ResolvedPrecision, *, device: str) -> dict[str, Any]:
    """What transformers' `from_pretrained` needs to know to load in this precision.

    nf4 is that of QLoRA with double quantisation (Dettmers et al., 2023, https://arxiv.org/abs/2305.14314): four bits
    per weight in the linear layers, everything else in the precision that `auto` takes.
    """
    if precision != "nf4":
        return {"dtype": _DTYPES[precision]}
    dtype = _DTYPES[resolve_precision("auto", device=device)]
    return {
        "dtype": dtype,
        "device_map": {"": device},  # quantised where it is to live
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        ),
    }


def keep_differentiable(model: torch.nn.Module) -> None:
    """Keeps 4-bit layers on the CPU in the layout that gradients flow through.

    On processors with AVX512-BF16 bitsandbytes repacks the weights of a layer in evaluation mode at its first call
    without gradient, for kernels that autograd does not know: gradients would be wrong, with no more than a warning.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
