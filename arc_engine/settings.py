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
BUNDLED_BASE_MODELS: Final = (DEFAULT_BASE_MODEL, "arc-mini-ft")
"""What comes with the package; these names mean the same in every installation."""
MAX_ANSWERS_PER_INPUT: Final = 4096

MAX_SHIFTING_RANK: Final = 256
"""Inits that start from the base's own weights are exported as plain LoRA of twice the rank, and vLLM stops at 512."""

SamplingMethod = Literal["greedy", "sample", "dfs"]
SelectionMethod = Literal["vote", "hierarchical_vote", "product_of_experts", "probmul", "view_count_logprob"]
WhenTooLong = Literal["drop_pairs", "fail"]
LossOn = Literal["test_output", "later_outputs", "all_outputs"]
LeaveOneOut = Literal["random", "rotate", "off"]
Start = Literal["new", "continue", "warm"]
Scope = Literal["per_task", "shared", "groups"]
Precision = Literal["auto", "float32", "bfloat16", "float16", "nf4"]
BackendSetting = Literal["auto", "vllm", "torch"]
SchedulerName = Literal["linear", "cosine", "constant", "constant_with_warmup"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
RESCORING: Final[frozenset[SelectionMethod]] = frozenset({"product_of_experts", "probmul", "view_count_logprob"})
"""Selection methods that ask the model again how likely it finds a candidate."""
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$", max_length=200)]


def _known_encoder(expression: str) -> str:
    parse_encoder(expression)
    return expression


GridEncoderName = Annotated[str, AfterValidator(_known_encoder)]
"""A text that `parse_encoder` reads."""


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


class ExampleSettings(_Settings):
    """Which training sequences are made of the task's demonstration pairs, and which of their tokens are targets."""

    leave_one_out: LeaveOneOut = Field(
        default="random",
        description="Which pair stands in for the test, last in its sequence: one drawn at random, every pair in turn "
        "(rotate), or always the task's last one (off). MIT 2024 lost 38% without it.",
    )
    swap: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Probability with which the held-out pair changes places with one drawn from all pairs, itself "
        "included, so that it stays a target too. Where the held-out pair is drawn at random and the others are "
        "shuffled (`leave_one_out` random, the default), this changes nothing but the luck of the draw.",
    )
    loss_on: LossOn = Field(
        default="later_outputs",
        description="Which outputs are targets; the first one cannot be predicted (ARChitects, 2024).",
    )


class WarmupSettings(_Settings):
    """The common warm-up of `start` warm: one adapter, trained on all tasks of the batch before each goes its way."""

    steps: int = Field(default=100, ge=1, le=100_000, description="Optimizer steps of the common warm-up.")
    batch_size: int = Field(default=16, ge=1, le=256, description="Sequences per step of the common warm-up.")


class AdaptationSettings(_Settings):
    """Test-time fine-tuning: how the LoRA adapter is trained on the task's own pairs.

    `start` warm needs `scope` per_task, `start` continue `init` default. `init` pissa and olora need `start` new, and a
    `lora_rank` of at most 256 because their adapters are exported as plain LoRA of twice the rank; orthogonal needs an
    even `lora_rank`.
    """

    start: Start = Field(
        default="new",
        description="new: a fresh adapter on the merged base model; continue: the base model's own adapter, trained "
        "further; warm: an adapter that was warmed up on all tasks of the batch.",
    )
    warmup: WarmupSettings = Field(default_factory=WarmupSettings, description="For `start` warm.")
    scope: Scope = Field(
        default="per_task", description="Whether each task of the batch, all together, or groups share an adapter."
    )
    group_size: int = Field(
        default=5, ge=1, le=1000, description="Tasks per adapter for `scope` groups, in the order of the request."
    )
    lora_rank: int = Field(default=16, ge=1, le=512, description="Rank of the LoRA matrices.")
    lora_alpha: float = Field(
        default=32, gt=0, le=4096, description="LoRA scale; updates are multiplied by alpha/rank."
    )
    use_rslora: bool = Field(
        default=False,
        description="Multiply updates by alpha/sqrt(rank) instead (Kalajdzievski, 2023, arXiv:2312.03732).",
    )
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the input of the LoRA matrices.")
    target_modules: (
        Literal["all-linear"] | Annotated[tuple[ModuleName, ...], Field(min_length=1, max_length=256, strict=False)]
    ) = Field(
        default="all-linear",
        description="Layers that get LoRA matrices: all linear ones but the output layer, or those with these "
        "names, for example q_proj and v_proj.",
    )
    init: str = Field(
        default="default",
        pattern=r"^(default|gaussian|orthogonal|olora|pissa|pissa_niter_[1-9][0-9]?)$",
        description="Initial LoRA matrices: default, gaussian, orthogonal, olora, pissa, or pissa_niter_N with N "
        "rounds of the fast decomposition. Whichever it is, the adapter is exported as plain LoRA.",
    )
    max_steps: int = Field(default=150, ge=1, le=100_000, description="Optimizer steps.")
    batch_size: int = Field(default=4, ge=1, le=256, description="Sequences per step.")
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="Peak learning rate of AdamW.")
    lr_scheduler: SchedulerName = Field(default="linear", description="How the learning rate goes down after warm-up.")
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1, description="Share of the steps in which the rate goes up.")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="Decoupled weight decay of AdamW.")
    max_grad_norm: float = Field(default=1.0, gt=0, le=1e6, description="Gradients are clipped to this norm.")
    divergence_norm: float = Field(
        default=1e4, gt=0, le=1e12, description="A gradient norm above this, before clipping, fails the job: diverged."
    )
    stop_loss: float | None = Field(
        default=None, gt=0, le=100, description="Stop once the mean loss of the last 10 steps, in nats, is below this."
    )
    time_budget_s: float | None = Field(
        default=None,
        gt=0,
        le=86_400,
        description="Stop after the step in which this many seconds of training are over; the adapter is kept. How "
        "many steps that is depends on the machine.",
    )
    logging_steps: int = Field(
        default=1, ge=1, le=1000, description="Record every n-th step, the first and the last one."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Compute activations again in the backward pass: less memory, more time."
    )
    precision: Precision = Field(
        default="auto",
        description="Precision of the base model while training; nf4 is 4-bit with bitsandbytes. auto: bfloat16 on a "
        "GPU, float32 elsewhere. The adapter is always float32.",
    )
    max_seq_len: int = Field(default=4096, ge=64, le=131_072, description="Longest training sequence in tokens.")
    examples: ExampleSettings = Field(default_factory=ExampleSettings)
    augmentation: AugmentationSettings = Field(default_factory=AugmentationSettings)
    seed: Seed = Field(default=0, description="Seed of initialisation, example order, views and dropout.")

    @property
    def shifts_base(self) -> bool:
        """Whether `init` takes its matrices out of the base's weights: pissa and olora."""
        return self.init.startswith(("pissa", "olora"))

    @property
    def adapter_rank(self) -> int:
        """Rank of the adapter that comes out."""
        return 2 * self.lora_rank if self.shifts_base else self.lora_rank

    @model_validator(mode="after")
    def _start_and_scope_agree(self) -> Self:
        if self.start == "warm" and self.scope != "per_task":
            raise ValueError("start warm goes on per task after the common warm-up; scope must be per_task")
        if self.start == "continue" and self.init != "default":
            raise ValueError(f"init {self.init} is for a new adapter; start continue has one to begin with")
        if self.start == "warm" and self.shifts_base:
            raise ValueError(f"init {self.init} is for start new; start warm goes on with a plain LoRA adapter")
        return self

    @model_validator(mode="after")
    def _rank_fits_init(self) -> Self:
        if self.shifts_base and self.lora_rank > MAX_SHIFTING_RANK:
            raise ValueError(f"init {self.init} takes a lora_rank of at most {MAX_SHIFTING_RANK}, not {self.lora_rank}")
        if self.init == "orthogonal" and self.lora_rank % 2:
            raise ValueError(f"init orthogonal takes an even lora_rank, not {self.lora_rank}")
        return self


class PromptSettings(_Settings):
    """How the task is written for the model."""

    version: PromptVersion = Field(
        default="compact",
        description="Layout of the prompt: compact has one marker per grid; chat is verbose and goes through the "
        "tokenizer's chat template.",
    )
    grid_encoder: GridEncoderName = Field(
        default="MinimalGridEncoder()",
        description="Nested encoders, for example GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder())).",
    )


class SamplingSettings(_Settings):
    """How candidate grids are generated.

    `num_views` times `samples_per_view` is at most 4096. Method dfs needs a `backend` of torch, or auto.
    """

    backend: BackendSetting = Field(
        default="auto", description="auto takes vLLM where it is installed, torch elsewhere and for method dfs."
    )
    method: SamplingMethod = Field(
        default="greedy",
        description="greedy decodes once per view; sample draws; dfs finds every answer whose probability is at least "
        "`min_probability` (the ARChitects, 2024).",
    )
    num_views: int = Field(
        default=16, ge=1, le=1024, description="Views of the task under which answers are generated."
    )
    samples_per_view: int = Field(default=1, ge=1, le=256, description="Answers per view, for method sample; else 1.")
    temperature: float = Field(default=0.7, gt=0, le=5, description="For method sample.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus probability, for method sample.")
    min_probability: float = Field(
        default=0.1,
        ge=1e-4,
        lt=1,
        description="For method dfs: answers less probable than this are not looked for. Lower finds more and takes "
        "longer; 0.09 to 0.2 are the values in use (the ARChitects, 2024).",
    )
    max_nodes: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="For method dfs: tokens looked at per view, after which its search is cut; unset: no limit.",
    )
    max_new_tokens: int | None = Field(
        default=None, ge=1, le=32_768, description="Answer limit in tokens; unset: what a 30x30 grid needs."
    )
    time_budget_s: float | None = Field(
        default=None,
        gt=0,
        le=86_400,
        description="Seconds of generating, after which what is not finished is cut; the job goes on with what there "
        "is. How much that is depends on the machine.",
    )
    grid_tokens_only: bool = Field(
        default=True,
        description="Generate only tokens that grids are written with, where the tokenizer has a token per cell.",
    )
    when_too_long: WhenTooLong = Field(
        default="drop_pairs",
        description="What becomes of a prompt that leaves the context no room for an answer: drop_pairs leaves out "
        "demonstration pairs, the longest first, one at least staying; fail ends the job as failed: task_too_long.",
    )
    seed: Seed = Field(default=0, description="Seed of views and of sampling.")

    @property
    def num_answers(self) -> int:
        """Answers that are asked for per test input; dfs finds as many as there are."""
        return self.num_views * self.samples_per_view

    @model_validator(mode="after")
    def _only_sampling_repeats(self) -> Self:
        if self.method != "sample" and self.samples_per_view != 1:
            raise ValueError(f"{self.method} answers once per view; samples_per_view must be 1")
        return self

    @model_validator(mode="after")
    def _backend_has_method(self) -> Self:
        if self.method == "dfs" and self.backend == "vllm":
            raise ValueError("method dfs is the torch backend's; backend must be torch or auto")
        return self

    @model_validator(mode="after")
    def _a_job_that_ends(self) -> Self:
        if self.num_answers > MAX_ANSWERS_PER_INPUT:
            raise ValueError(
                f"num_views times samples_per_view is at most {MAX_ANSWERS_PER_INPUT} answers per test input, "
                f"{self.num_views} times {self.samples_per_view} is {self.num_answers}"
            )
        return self


class SelectionSettings(_Settings):
    """How two attempts are chosen among the candidates."""

    method: SelectionMethod = Field(
        default="vote",
        description="vote: the grids that most completions gave; hierarchical_vote: the best three of every "
        "transformation, then those that most transformations chose (MIT, 2024); product_of_experts: the grids that "
        "are likeliest under all scoring views together; probmul: that, with the probabilities under which they were "
        "found (both the ARChitects, 2024); view_count_logprob: number of views that found a grid plus its mean "
        "log-probability under the scoring views.",
    )
    num_scoring_views: int = Field(
        default=8,
        ge=1,
        le=256,
        description="Views under which every candidate is scored again, the same for all; for the methods after "
        "hierarchical_vote.",
    )
    num_scored: int = Field(
        default=16,
        ge=2,
        le=MAX_ANSWERS_PER_INPUT,
        description="Candidates that are scored again, those with most votes; the others rank below them.",
    )

    @property
    def rescores(self) -> bool:
        """Whether the method needs the candidates scored again."""
        return self.method in RESCORING


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
