"""Folding a base adapter into a base model: what decouples base fine-tuning from test-time fine-tuning."""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor

from arc_engine.base_models.folders import appearing_whole, copy_companions, stored_dtype
from arc_engine.base_models.loading import load_base
from arc_engine.base_models.manifest import MANIFEST_NAME, hash_folder
from arc_engine.base_models.plain_lora import ADAPTER_WEIGHTS, read_plain_lora
from arc_engine.errors import BaseModelError

PROBE_SHAPE: Final = (4, 64)  # [batch, length] of random tokens
# Largest root mean square of the logits' error, relative to that of the logits. Rounding every weight to bfloat16
# (8 bits) costs about 0.003 of a logit; a merge that went wrong costs all of it.
MAX_RELATIVE_ERROR: Final = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-2}


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge did. All logits are computed in float32, on the same random tokens."""

    folder: Path
    dtype: str
    """Precision of the merged weights, which is that of the base model's."""
    adapter_rank: int
    max_logit_change: float
    """Largest difference that the adapter makes to a logit of the base model."""
    max_logit_error: float
    """Largest difference of a logit between the written folder and base plus adapter."""
    relative_error: float
    """Root mean square of that difference over all logits, divided by that of the logits themselves."""


def merge(base_folder: Path, adapter_folder: Path, out_folder: Path) -> MergeReport:
    """Writes base model plus adapter as one plain model, with a manifest of hashes, to `out_folder`.

    The sum is computed in float32 and rounded once, to the base's own precision. What was written is loaded again and
    its logits are compared with those of base and adapter. `out_folder` appears only once all that has succeeded.

    Raises `BaseModelError` if `out_folder` exists, base or adapter cannot be loaded, do not belong together or cannot
    be merged, or if the logits differ.
    """
    adapter_config = read_plain_lora(adapter_folder)
    with appearing_whole(out_folder) as folder:
        base_logits, expected = _write_merged(base_folder, adapter_folder, folder)
        report = _compare(
            folder, base_logits=base_logits, expected=expected, out_folder=out_folder, rank=adapter_config["r"]
        )
        _write_manifest(folder, report=report, base_folder=base_folder, adapter_folder=adapter_folder)
    return report


def _write_merged(base_folder: Path, adapter_folder: Path, folder: Path) -> tuple[Tensor, Tensor]:
    """Writes the merged model; the logits of the base alone and of base plus adapter."""
    base = load_base(base_folder, device="cpu", precision="float32")
    base_logits = _logits(base.model)
    dtype = stored_dtype(base_folder)
    peft_model = _load_adapter(base.model, adapter_folder)
    expected = _logits(peft_model)
    if not expected.isfinite().all():
        raise BaseModelError(f"{base_folder} with {adapter_folder} gives logits that are not finite")
    merged = peft_model.merge_and_unload()
    merged.to(dtype).save_pretrained(folder)
    copy_companions(base_folder, folder)
    return base_logits, expected


def _load_adapter(model: Any, folder: Path) -> PeftModel:  # noqa: ANN401 - transformers is untyped
    try:
        peft_model = PeftModel.from_pretrained(model, folder, local_files_only=True).eval()
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
            in_file = set(file.keys())
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise BaseModelError(f"{folder} does not fit the base model: {error}") from error
    # PEFT itself passes over weights that have no layer, and leaves layers without weights at random values.
    in_model = set(get_peft_model_state_dict(peft_model, save_embedding_layers=False))
    if in_file != in_model:
        raise BaseModelError(f"{folder} does not fit the base model: {min(in_file ^ in_model)} is in one of them only")
    return peft_model


def _logits(model: Any) -> Tensor:  # noqa: ANN401 - transformers is untyped
    """`[batch, length, vocab]` of `model` on the probe."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, PROBE_SHAPE, generator=generator)
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits


def _compare(folder: Path, *, base_logits: Tensor, expected: Tensor, out_folder: Path, rank: int) -> MergeReport:
    dtype = stored_dtype(folder)
    merged_logits = _logits(load_base(folder, device="cpu", precision="float32").model)
    error = merged_logits - expected
    report = MergeReport(
        folder=out_folder,
        dtype=str(dtype).removeprefix("torch."),
        adapter_rank=rank,
        max_logit_change=(expected - base_logits).abs().max().item(),
        max_logit_error=error.abs().max().item(),
        relative_error=(error.square().mean().sqrt() / expected.square().mean().sqrt()).item(),
    )
    if not report.relative_error <= MAX_RELATIVE_ERROR[dtype]:  # NaN is refused too
        raise BaseModelError(
            f"merged logits are not those of base plus adapter: they differ by up to {report.max_logit_error:.3g}"
        )
    return report


def _write_manifest(folder: Path, *, report: MergeReport, base_folder: Path, adapter_folder: Path) -> None:
    manifest = {
        "kind": "merged base model",
        "files": hash_folder(folder),
        "base": {"name": base_folder.name, "files": hash_folder(base_folder)},
        "adapter": {"name": adapter_folder.name, "files": hash_folder(adapter_folder)},
        "check": {name: value for name, value in asdict(report).items() if name != "folder"},
        "versions": {package: version(package) for package in ("torch", "transformers", "peft")},
    }
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
