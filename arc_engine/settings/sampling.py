"""How candidate grids are generated."""

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from arc_engine.settings.model import Seed, Settings

MAX_ANSWERS_PER_INPUT: Final = 4096

SamplingMethod = Literal["greedy", "sample", "dfs"]
WhenTooLong = Literal["drop_pairs", "fail"]
BackendSetting = Literal["auto", "vllm", "torch"]


class SamplingSettings(Settings):
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
    temperature: float = Field(
        default=0.7, ge=0.01, le=2, description="For method sample; vLLM takes no others than these."
    )
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus probability, for method sample.")
    min_probability: float = Field(
        default=0.1,
        ge=1e-4,
        lt=1,
        description="For method dfs: answers less probable than this are not looked for. Lower finds more and takes "
        "longer; 0.09 to 0.2 are the values in use (the ARChitects, 2024).",
    )
    max_nodes: int | None = Field(
        default=20_000,
        ge=1,
        le=10_000_000,
        description="For method dfs: tokens looked at per view, after which its search is cut; null: no limit. It "
        "would end by itself after as many as the answer limit divided by `min_probability`: 9,300 by default, with a "
        "token per cell.",
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
