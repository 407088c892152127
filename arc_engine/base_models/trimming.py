"""Vocabulary trimming: a base model without the tokens that no prompt is written with.

Of 49,152 tokens SmolLM2 needs a few hundred to write ARC tasks. Without the others its embeddings shrink by as much,
sampling chooses among what can be an answer, and every cell of a grid is one token, as the ARChitects' 2024 solution
had it. The vocabulary belongs to the base: adapters know nothing of it.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Final, get_args

import torch
from torch import Tensor, nn

from arc_engine.base_models.folders import (
    CHAT_TEMPLATE_FILES,
    LICENCE_FILES,
    appearing_whole,
    copy_companions,
    stored_dtype,
)
from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.base_models.manifest import MANIFEST_NAME, hash_folder
from arc_engine.base_models.vocabulary import TokenizerJson, kept_tokens, without_others
from arc_engine.errors import BaseModelError, EncoderUnsupported, PromptUnsupported
from arc_engine.prompts import PromptVersion
from arc_engine.prompts.writer import PromptWriter
from arc_engine.settings import PromptSettings
from arc_engine.tasks import Pair
from arc_engine.tokens import Tokenizer, names_encoder

ENCODERS_IN_USE: Final = (
    "MinimalGridEncoder()",
    "GridWithSeparationEncoder()",
    "RepeatNumberEncoder()",
    "RowNumberEncoder(MinimalGridEncoder())",
    "GridCodeBlockEncoder(MinimalGridEncoder())",
    "GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))",
)
NUM_SAMPLE_PAIRS: Final = 12  # as many as demonstrations get numbers of one and of two digits
PROBE_TOKENS: Final = 256
MAX_LOGIT_ERROR: Final = 1e-4
# What else a tokenizer may be written in, all of it in tokenizer.json and tokenizer_config.json too.
REPLACED_FILES: Final = (
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "spiece.model",
)

_GRID: Final = tuple(tuple((3 * x + 7 * y) % 10 for x in range(10)) for y in range(12))


@dataclass(frozen=True, slots=True)
class TrimReport:
    """What was cut. The logits of the tokens that are left are compared on a prompt, in float32."""

    folder: Path
    num_tokens_before: int
    num_tokens: int
    num_parameters_before: int
    num_parameters: int
    max_logit_error: float


def trim(
    base_folder: Path, out_folder: Path, *, keep: str = "", grid_encoders: Sequence[str] = ENCODERS_IN_USE
) -> TrimReport:
    """Writes the model of `base_folder` with the tokens of our prompts, of the text `keep` and special ones only.

    The prompts are all versions that the tokenizer can write, in its own encoder and each of `grid_encoders`. What was
    written is loaded again: it must write those prompts in the same tokens, unless these merged digits, and give them
    the same logits.

    Raises `BaseModelError` if `out_folder` exists, the model cannot be loaded, its tokenizer is of a kind that cannot
    be trimmed, or the trimmed model is not the same on what is left.
    """
    with appearing_whole(out_folder) as folder:
        base = load_base(base_folder, device="cpu", precision="float32")
        kept = _kept(base, keep=keep, grid_encoders=grid_encoders)
        probe = [kept[i] for i in torch.randint(len(kept), (PROBE_TOKENS,), generator=torch.Generator().manual_seed(0))]
        expected = _logits(base.model, probe)[:, kept]
        num_tokens, num_parameters = base.model.get_input_embeddings().num_embeddings, base.model.num_parameters()
        _write_tokenizer(base, kept, folder=folder)
        _cut(base.model, kept)
        base.model.to(stored_dtype(base_folder)).save_pretrained(folder)
        copy_companions(base_folder, folder, patterns=(*LICENCE_FILES, *CHAT_TEMPLATE_FILES))
        trimmed = load_base(folder, device="cpu", precision="float32")
        _check_prompts(base.tokenizer, trimmed.tokenizer, kept, grid_encoders=grid_encoders)
        report = TrimReport(
            folder=out_folder,
            num_tokens_before=num_tokens,
            num_tokens=len(kept),
            num_parameters_before=num_parameters,
            num_parameters=trimmed.model.num_parameters(),
            max_logit_error=(_logits(trimmed.model, [kept.index(old) for old in probe]) - expected).abs().max().item(),
        )
        if not report.max_logit_error <= MAX_LOGIT_ERROR:  # NaN is refused too
            raise BaseModelError(f"the trimmed model's logits differ by up to {report.max_logit_error:.3g}")
        _write_manifest(folder, report=report, base_folder=base_folder, kept=kept)
    return report


def _kept(base: LoadedBase, *, keep: str, grid_encoders: Sequence[str]) -> list[int]:
    tokenizer: Any = base.tokenizer
    used = {number for ids in _prompts(tokenizer, grid_encoders).values() for number in ids}
    used |= set(tokenizer.encode(keep, add_special_tokens=False))
    special = set(tokenizer.all_special_ids) | _own_tokens(tokenizer)
    for config in (base.model.config, base.model.generation_config):
        for value in _token_ids(config).values():
            special |= set(value if isinstance(value, list) else [value])
    # Tokens that the tokenizer got and the model did not (a [PAD], often) go, and so do ids that mean none, such as -1.
    embedded = range(base.model.get_input_embeddings().num_embeddings)
    if not used <= set(embedded):
        raise BaseModelError(
            f"{base.folder}: the tokenizer writes prompts in tokens that the model has no embedding of"
        )
    kept = kept_tokens(_document(tokenizer), used=used, special=special)
    return [number for number in kept if number in embedded]


def _own_tokens(tokenizer: Tokenizer) -> set[int]:
    """Those of the encoder that the base model names, if it names one: made for it, digits and all."""
    if not names_encoder(tokenizer):
        return set()
    return set(PromptWriter.of(PromptSettings(), tokenizer).answer_alphabet() or ())


def _prompts(tokenizer: Tokenizer, grid_encoders: Sequence[str]) -> dict[tuple[str, str | None], tuple[int, ...]]:
    """Token ids of a long prompt in every version and encoder that the tokenizer can write, its own (None) included."""
    written = {}
    for layout, grid_encoder in product(get_args(PromptVersion), (None, *grid_encoders)):
        settings = PromptSettings(version=layout, grid_encoder=grid_encoder)
        try:
            writer = PromptWriter.of(settings, tokenizer)
        except (EncoderUnsupported, PromptUnsupported):
            continue
        written[layout, grid_encoder] = writer.training([Pair(_GRID, _GRID)] * NUM_SAMPLE_PAIRS).ids
    return written


def _check_prompts(before: Tokenizer, after: Tokenizer, kept: Sequence[int], *, grid_encoders: Sequence[str]) -> None:
    new_id = {old: new for new, old in enumerate(kept)}
    found = _prompts(after, grid_encoders)
    for prompt, ids in _prompts(before, grid_encoders).items():
        if prompt not in found:
            raise BaseModelError(f"the trimmed tokenizer cannot write the prompt {prompt}")
        if new_id.keys() >= set(ids) and tuple(new_id[old] for old in ids) != found[prompt]:
            raise BaseModelError(f"the trimmed tokenizer writes the prompt {prompt} in other tokens")


def _document(tokenizer: Any) -> TokenizerJson:  # noqa: ANN401 - transformers is untyped
    if not getattr(tokenizer, "is_fast", False):
        raise BaseModelError(f"a tokenizer of class {type(tokenizer).__name__} cannot be trimmed")
    document: TokenizerJson = json.loads(tokenizer.backend_tokenizer.to_str())
    return document


def _write_tokenizer(base: LoadedBase, kept: Sequence[int], *, folder: Path) -> None:
    tokenizer: Any = base.tokenizer
    document = without_others(_document(tokenizer), kept)
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    # Whatever this lists that the tokenizer no longer has would be added to it again, under new numbers.
    config.pop("added_tokens_decoder", None)
    left = frozenset(kept)
    gone = {text for text in tokenizer.all_special_tokens if tokenizer.convert_tokens_to_ids(text) not in left}
    path.write_text(json.dumps(_without(config, gone), ensure_ascii=False, indent=2), encoding="utf-8")
    for name in REPLACED_FILES:
        (folder / name).unlink(missing_ok=True)


def _without(value: Any, gone: Collection[str]) -> Any:  # noqa: ANN401 - JSON
    """A tokenizer's configuration without the tokens `gone`, each a text or an object that holds it."""

    def stays(part: object) -> bool:
        text = part.get("content") if isinstance(part, dict) else part
        return not (isinstance(text, str) and text in gone)

    if isinstance(value, dict):
        return {name: _without(part, gone) for name, part in value.items() if stays(part)}
    if isinstance(value, list):
        return [_without(part, gone) for part in value if stays(part)]
    return value


def _cut(model: Any, kept: Sequence[int]) -> None:  # noqa: ANN401 - transformers is untyped
    """Cuts embeddings and output layer to the rows `kept`, and renumbers the special tokens of the configurations;
    those that have no row there are no longer named."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    cut = nn.Embedding(len(kept), embeddings.embedding_dim, _weight=embeddings.weight[kept].clone())  # [kept, width]
    cut_head = nn.Linear(head.in_features, len(kept), bias=head.bias is not None)
    cut_head.weight = cut.weight if head.weight is embeddings.weight else nn.Parameter(head.weight[kept].clone())
    if head.bias is not None:
        cut_head.bias = nn.Parameter(head.bias[kept].clone())
    model.set_input_embeddings(cut)
    model.set_output_embeddings(cut_head)
    model.config.vocab_size = len(kept)
    new_id = {old: new for new, old in enumerate(kept)}
    for config in (model.config, model.generation_config):
        for name, value in _token_ids(config).items():
            if isinstance(value, list):
                setattr(config, name, [new_id[old] for old in value if old in new_id] or None)
            else:
                setattr(config, name, new_id.get(value))


def _token_ids(config: Any) -> dict[str, int | list[int]]:  # noqa: ANN401 - transformers is untyped
    fields: dict[str, Any] = config.to_dict()
    return {name: value for name, value in fields.items() if name.endswith("_token_id") and value is not None}


@torch.no_grad()
def _logits(model: Any, ids: Sequence[int]) -> Tensor:  # noqa: ANN401 - transformers is untyped
    logits: Tensor = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return logits  # [tokens, vocab]


def _write_manifest(folder: Path, *, report: TrimReport, base_folder: Path, kept: Sequence[int]) -> None:
    manifest = {
        "kind": "base model with trimmed vocabulary",
        "files": hash_folder(folder),
        "base": {"name": base_folder.name, "files": hash_folder(base_folder)},
        "kept_token_ids": list(kept),
        "check": {name: value for name, value in asdict(report).items() if name != "folder"},
        "versions": {package: version(package) for package in ("torch", "transformers", "tokenizers")},
    }
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
