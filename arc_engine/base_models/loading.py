"""Base models in memory: weights, tokenizer, and the device they live on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel

from arc_engine.base_models.precision import ResolvedPrecision, keep_differentiable, loading_options, resolve_precision
from arc_engine.base_models.reading import read_base
from arc_engine.errors import BaseModelError
from arc_engine.settings import Precision
from arc_engine.tokens import Tokenizer

# Models that change their logits after the output layer. Our losses take the output layer alone.
LOGIT_CHANGING_OPTIONS: Final = ("final_logit_softcapping", "logits_scaling", "logit_scale")


@dataclass(frozen=True, slots=True, eq=False)
class LoadedBase:
    """A base model ready for use: frozen, in evaluation mode, without any adapter."""

    folder: Path
    model: PreTrainedModel
    tokenizer: Tokenizer
    device: str
    precision: ResolvedPrecision
    max_positions: int
    """Longest sequence, in tokens, that the model has positions for."""


def load_base(folder: Path, *, device: str = "auto", precision: Precision = "auto") -> LoadedBase:
    """Loads the model in `folder` from safetensors, without network and without running code from the folder.

    `device` auto takes the first GPU where there is one.

    Raises `PrecisionUnsupported` if this machine cannot train in that precision, `BaseModelError` if the folder holds
    no such model, or one whose losses we could not compute.
    """
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    resolved = resolve_precision(precision, device=device)
    reading = read_base(folder)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **loading_options(resolved, device=device),
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BaseModelError(f"{folder} cannot be loaded: {error}") from error
    if report["missing_keys"]:  # transformers would go on with random ones
        raise BaseModelError(f"{folder} cannot be loaded: no weights for {', '.join(sorted(report['missing_keys']))}")
    if resolved == "nf4":
        keep_differentiable(model)
    return LoadedBase(
        folder=folder,
        model=_frozen(model, folder=folder).to(device),
        tokenizer=reading.tokenizer,
        device=device,
        precision=resolved,
        max_positions=reading.max_positions,
    )


def _frozen(model: Any, *, folder: Path) -> Any:  # noqa: ANN401 - transformers is untyped
    for option in LOGIT_CHANGING_OPTIONS:
        if getattr(model.config.get_text_config(), option, None) not in {None, 1}:
            raise BaseModelError(f"{folder}: models with {option} are not supported")
    # Evaluation mode also while adapting: the only dropout would be the base model's own, drawn from global state.
    return model.eval().requires_grad_(requires_grad=False)
