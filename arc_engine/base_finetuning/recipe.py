"""The recipe of a base fine-tuning run, as a YAML file: base model, data, optimisation, budget, seed."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from arc_engine.datasets.choice import TaskSource
from arc_engine.settings import (
    AdaptationSettings,
    AugmentationSettings,
    GridEncoderName,
    LossOn,
    ModuleName,
    Precision,
    SchedulerName,
    Seed,
)
from arc_engine.training.fingerprint import fingerprint
from arc_engine.yaml_text import parse_yaml

Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LoraShape(_Strict):
    """The base adapter."""

    rank: int = Field(default=32, ge=1, le=512)
    alpha: float = Field(default=64, gt=0, le=4096)
    use_rslora: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | Annotated[tuple[ModuleName, ...], Field(min_length=1, strict=False)] = (
        "all-linear"
    )

    def settings(self, *, seed: int) -> AdaptationSettings:
        """The same layers in the words of test-time fine-tuning, which puts LoRA into models the same way."""
        return AdaptationSettings(
            lora_rank=self.rank,
            lora_alpha=self.alpha,
            use_rslora=self.use_rslora,
            lora_dropout=self.dropout,
            target_modules=self.target_modules,
            seed=seed,
        )


class TrainingPrompt(_Strict):
    """How a task is written. `input-from-inputs` has the inputs only, each to be predicted from those before it."""

    version: Literal["compact", "chat", "input-from-inputs"] = "compact"
    grid_encoder: GridEncoderName | None = None


class TrainingData(TaskSource):
    """One part of the mixture; parts are drawn in proportion to their weights, the tasks of a part equally often."""

    prompt: TrainingPrompt = TrainingPrompt()
    weight: float = Field(default=1.0, gt=0)


class Validation(TaskSource):
    """Tasks kept out of training, and how often they are measured."""

    prompt: TrainingPrompt = TrainingPrompt()
    every_steps: int = Field(default=200, ge=1)
    num_views: int = Field(default=1, ge=1, le=64)
    """Greedy answers per test input: the task as it is, then random views of it, always the same ones."""


class Examples(_Strict):
    """Which pair of a task stands last in its sequence, and which outputs are targets."""

    leave_one_out: Literal["random", "off"] = "random"
    """random: any pair, the test pairs included; off: a test pair, after all demonstrations."""
    swap: Share = 0.0
    """With leave_one_out off: how often the last pair changes places with one drawn from all, itself included."""
    loss_on: LossOn = "later_outputs"


class Optimisation(_Strict):
    """AdamW; warm-up, then the scheduler over what is left of the budget."""

    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    lr_scheduler: SchedulerName = "linear"
    warmup_steps: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, gt=0)


class Recipe(_Strict):
    """Everything that decides a run, but for where it runs.

    Exactly one of `max_steps` (reproducible) and `hours` (wall time) is the budget, exactly one of `batch_tokens`
    (padding included) and `batch_size` (sequences) the size of a micro-batch. `gradient_accumulation` micro-batches
    make one step; several processes share them out, so that their number changes the speed and not the result.
    Relative paths are taken from the folder of the recipe's file.
    """

    name: str = "base-finetune"
    base_model: str
    """A folder, or what else `arc_engine.base_models.sources` takes."""
    revision: str | None = None
    """Of a base model from a hub."""
    lora: LoraShape | None = LoraShape()
    full: bool = False
    data: tuple[TrainingData, ...] = Field(min_length=1, strict=False)
    validation: Validation | None = None
    examples: Examples = Examples()
    augmentation: AugmentationSettings = AugmentationSettings()
    optimisation: Optimisation = Optimisation()
    max_steps: int | None = Field(default=None, ge=1)
    hours: float | None = Field(default=None, gt=0)
    batch_tokens: int | None = Field(default=None, ge=64)
    batch_size: int | None = Field(default=None, ge=1)
    gradient_accumulation: int = Field(default=1, ge=1)
    max_seq_len: int = Field(default=4096, ge=64)
    precision: Precision = "auto"
    gradient_checkpointing: bool = False
    seed: Seed = 0
    evaluation_tasks: Literal["refuse", "leave_out"] = "refuse"
    """What becomes of evaluation tasks of ARC-AGI-1 and -2 in the data, under whatever id and view."""
    checkpoint_every_s: float = Field(default=300.0, gt=0)
    checkpoint_every_steps: int | None = Field(default=None, ge=1)
    log_every_steps: int = Field(default=10, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _full_has_no_lora(cls, fields: object) -> object:
        if isinstance(fields, dict) and fields.get("full") is True:
            if fields.get("lora") is not None:
                raise ValueError("full trains every weight of the model; leave out lora")
            return {**fields, "lora": None}
        return fields

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not self.full and self.lora is None:
            raise ValueError("give lora, or full: true")
        if (self.max_steps is None) == (self.hours is None):
            raise ValueError("give exactly one of max_steps and hours")
        if (self.batch_tokens is None) == (self.batch_size is None):
            raise ValueError("give exactly one of batch_tokens and batch_size")
        if self.full and self.precision in {"float16", "nf4"}:
            raise ValueError(f"full: true trains in float32 or bfloat16, not in {self.precision}")
        if self.validation is not None and self.validation.prompt.version == "input-from-inputs":
            raise ValueError("validation asks for outputs; input-from-inputs has none")
        return self

    def fingerprint(self) -> str:
        """The same for recipes that differ in their budget, or in when they log, validate and save."""
        return fingerprint(self, free={"validation": {"every_steps"}})

    def with_budget(self, *, hours: float | None, max_steps: int | None) -> "Recipe":
        """The same recipe with another budget; its own where neither is given."""
        if hours is None and max_steps is None:
            return self
        return Recipe.model_validate({**self.model_dump(), "hours": hours, "max_steps": max_steps})


def load_recipe(path: Path) -> Recipe:
    """Reads and checks a recipe file."""
    return Recipe.model_validate(parse_yaml(path.read_text(encoding="utf-8")))
