"""Everything a client may say about how a task is solved.

One tree of pydantic models: the API validates it, the job's row stores it with every default filled in, the worker
reads it back. Unknown fields are refused. Where a default comes from somebody's work, the description names it.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from arc_engine.encoders import parse_encoder
from arc_engine.prompts import PromptVersion
from arc_engine.views import ViewDistribution

DEFAULT_BASE_MODEL: Final = "arc-mini"
MAX_ANSWERS_PER_INPUT: Final = 4096

LossOn = Literal["test_output", "later_outputs", "all_outputs"]
BackendSetting = Literal["auto", "vllm", "torch"]
SchedulerName = Literal["linear", "cosine", "constant", "constant_with_warmup"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _known_encoder(expression: str) -> str:
    parse_encoder(expression)
    return expression


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class AugmentationSettings(_Settings):
    """Under which views the task is trained on."""

    dihedral: bool = Field(default=True, description="Rotate and mirror the grids (8 symmetries of the square).")
    colours: bool = Field(default=True, description="Permute the ten colours.")
    keep_background: float = Field(
        default=0.0, ge=0, le=1, description="Share of colour permutations that leave colour 0 where it is."
    )
    pair_order: bool = Field(default=True, description="Shuffle the demonstration pairs.")

    def distribution(self) -> ViewDistribution:
        """The engine's own form of these switches."""
        return ViewDistribution(
            dihedral=self.dihedral,
            colours=self.colours,
            keep_background=self.keep_background,
            pair_order=self.pair_order,
        )


class AdaptationSettings(_Settings):
    """Test-time fine-tuning: how the LoRA adapter is trained on the task's own pairs."""

    lora_rank: int = Field(default=16, ge=1, le=512, description="Rank of the LoRA matrices.")
    lora_alpha: float = Field(
        default=32, gt=0, le=4096, description="LoRA scale; updates are multiplied by alpha/rank."
    )
    max_steps: int = Field(default=150, ge=1, le=100_000, description="Optimizer steps.")
    batch_size: int = Field(default=4, ge=1, le=256, description="Sequences per step.")
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="Peak learning rate of AdamW.")
    lr_scheduler: SchedulerName = Field(default="linear", description="How the learning rate goes down after warm-up.")
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1, description="Share of the steps in which the rate goes up.")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="Decoupled weight decay of AdamW.")
    max_grad_norm: float = Field(default=1.0, gt=0, le=1e6, description="Gradients are clipped to this norm.")
    max_seq_len: int = Field(default=4096, ge=64, le=131_072, description="Longest training sequence in tokens.")
    loss_on: LossOn = Field(
        default="later_outputs",
        description="Which outputs are targets; the first one cannot be predicted (ARChitects, 2024).",
    )
    augmentation: AugmentationSettings = Field(default_factory=AugmentationSettings)
    seed: Seed = Field(default=0, description="Seed of initialisation, example order and views.")


class PromptSettings(_Settings):
    """How the task is written for the model."""

    version: PromptVersion = Field(default="compact", description="Layout of the prompt.")
    grid_encoder: Annotated[str, AfterValidator(_known_encoder)] = Field(
        default="MinimalGridEncoder()",
        description="Nested encoders, for example GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder())).",
    )


class SamplingSettings(_Settings):
    """How candidate grids are generated."""

    backend: BackendSetting = Field(default="auto", description="auto takes vLLM where it is installed, else torch.")
    method: Literal["sample", "greedy"] = Field(default="greedy", description="greedy decodes once per view.")
    num_views: int = Field(
        default=16, ge=1, le=1024, description="Views of the task under which answers are generated."
    )
    samples_per_view: int = Field(default=1, ge=1, le=256, description="Answers per view; must be 1 for greedy.")
    temperature: float = Field(default=0.7, gt=0, le=5, description="For method sample.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus probability, for method sample.")
    max_new_tokens: int | None = Field(
        default=None, ge=1, le=32_768, description="Answer limit in tokens; unset: what a 30x30 grid needs."
    )
    seed: Seed = Field(default=0, description="Seed of views and of sampling.")

    @model_validator(mode="after")
    def _greedy_decodes_once(self) -> Self:
        if self.method == "greedy" and self.samples_per_view != 1:
            raise ValueError("greedy gives one answer per view; samples_per_view must be 1")
        return self

    @model_validator(mode="after")
    def _a_job_that_ends(self) -> Self:
        if self.num_views * self.samples_per_view > MAX_ANSWERS_PER_INPUT:
            raise ValueError(
                f"num_views times samples_per_view is at most {MAX_ANSWERS_PER_INPUT} answers per test input, "
                f"{self.num_views} times {self.samples_per_view} is {self.num_views * self.samples_per_view}"
            )
        return self


class SelectionSettings(_Settings):
    """How two attempts are chosen among the candidates."""

    method: Literal["vote"] = Field(default="vote", description="vote: the grids that most views agree on.")


class SolveSettings(_Settings):
    """The settings of one job."""

    base_model: str = Field(
        default=DEFAULT_BASE_MODEL,
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        description="Name of a registered base model.",
    )
    adaptation: AdaptationSettings | None = Field(
        default_factory=AdaptationSettings,
        description="null answers with the base model as it is: the baseline that adaptation is measured against.",
    )
    prompt: PromptSettings = Field(default_factory=PromptSettings)
    sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    selection: SelectionSettings = Field(default_factory=SelectionSettings)
