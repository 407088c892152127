"""Base models that come as GGUF files, made into folders that everything else here loads."""

import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

from arc_engine.base_models.folders import appearing_whole
from arc_engine.base_models.loading import load_base
from arc_engine.base_models.manifest import MANIFEST_NAME, hash_folder
from arc_engine.errors import BaseModelError
from arc_engine.hashing import hash_file

ConvertedPrecision: TypeAlias = Literal["float32", "bfloat16"]


def convert(gguf_file: Path, out_folder: Path, *, precision: ConvertedPrecision = "bfloat16") -> Path:
    """Writes the model and the tokenizer of a GGUF file to `out_folder`, as safetensors; quantised weights as their
    values in `precision`.

    Raises `BaseModelError` if `out_folder` exists, the file cannot be read, holds a model that transformers does not
    know, or one that we cannot load.
    """
    if find_spec("gguf") is None:
        raise BaseModelError("GGUF files need the gguf package: pip install 'arcadapt[gguf]'")
    if not gguf_file.is_file():
        raise BaseModelError(f"{gguf_file} is not a file")
    with appearing_whole(out_folder) as folder:
        tokenizer, model = _read(gguf_file, dtype={"float32": torch.float32, "bfloat16": torch.bfloat16}[precision])
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        load_base(folder, device="cpu", precision=precision)
        manifest = {
            "kind": "converted base model",
            "files": hash_folder(folder),
            "gguf": {"name": gguf_file.name, "sha256": hash_file(gguf_file)},
            "precision": precision,
            "versions": {package: version(package) for package in ("torch", "transformers", "gguf")},
        }
        (folder / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return out_folder


def _read(gguf_file: Path, *, dtype: torch.dtype) -> tuple[Any, Any]:
    """Tokenizer and model, the model without the mark of its quantisation: transformers would not save it with that."""
    options = {"gguf_file": gguf_file.name, "local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, **options)
        quantised = AutoModelForCausalLM.from_pretrained(
            gguf_file.parent, dtype=dtype, quantization_config=GgufConfig(dequantize=True), **options
        )
    except (OSError, ValueError, KeyError, RuntimeError, IndexError) as error:
        raise BaseModelError(f"{gguf_file} cannot be read: {error}") from error
    fields = quantised.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "dtype"):
        fields.pop(name, None)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields), dtype=dtype)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = quantised.generation_config
    return tokenizer, model
