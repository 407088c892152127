"""How an adapter is trained."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from arc_engine.settings.model import Seed, Settings
from arc_engine.views import ViewDistribution

MAX_SHIFTING_RANK: Final = 256
"""Inits that start from the base's own weights are exported as plain LoRA of twice the rank, and vLLM stops at 512."""

LossOn = Literal["test_output", "later_outputs", "all_outputs"]
LeaveOneOut = Literal["random", "rotate", "off"]
Start = Literal["new", "continue", "warm"]
Scope = Literal["per_task", "shared", "groups"]
Precision = Literal["auto", "float32", "bfloat16", "float16", "nf4"]
SchedulerName = Literal["linear", "cosine", "constant", "constant_with_warmup"]
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$", max_length=200)]


class AugmentationSettings(Settings):
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


class ExampleSettings(Settings):
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


class WarmupSettings(Settings):
    """The common warm-up of `start` warm: one adapter, trained on all tasks of the batch before each goes its way."""

    steps: int = Field(default=100, ge=1, le=100_000, description="Optimizer steps of the common warm-up.")
    batch_size: int = Field(default=16, ge=1, le=256, description="Sequences per step of the common warm-up.")


class AdaptationSettings(Settings):
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
    max_steps: int = Field(default=100, ge=1, le=100_000, description="Optimizer steps.")
    batch_size: int = Field(default=4, ge=1, le=256, description="Sequences per step.")
    batch_tokens: int | None = Field(
        default=1024,
        ge=1,
        le=10_000_000,
        description="A step takes no further sequence once it has this many tokens; long tasks then have fewer "
        "sequences per step, and every task a bound on its time. null: every step has `batch_size` sequences.",
    )
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="Peak learning rate of AdamW.")
    lr_scheduler: SchedulerName = Field(default="linear", description="How the learning rate goes down after warm-up.")
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1, description="Share of the steps in which the rate goes up.")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="Decoupled weight decay of AdamW.")
    max_grad_norm: float = Field(default=1.0, gt=0, le=1e6, description="Gradients are clipped to this norm.")
    divergence_norm: float = Field(
        default=1e4, gt=0, le=1e12, description="A gradient norm above this, before clipping, fails the job: diverged."
    )
    stop_loss: float | None = Field(
        default=0.005,
        gt=0,
        le=100,
        description="Stop once the mean loss of the last 10 steps, in nats, is below this. null: all steps.",
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
