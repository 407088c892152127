"""How two attempts are chosen."""

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from arc_engine.settings.model import Settings
from arc_engine.settings.sampling import MAX_ANSWERS_PER_INPUT

SelectionMethod = Literal["vote", "hierarchical_vote", "product_of_experts", "probmul", "view_count_logprob"]
RESCORING: Final[frozenset[SelectionMethod]] = frozenset({"product_of_experts", "probmul", "view_count_logprob"})
"""Selection methods that ask the model again how likely it finds a candidate."""
MAX_SCORED_PER_INPUT: Final = 4096


class SelectionSettings(Settings):
    """How two attempts are chosen among the candidates.

    `num_scoring_views` times `num_scored` is at most 4096.
    """

    method: SelectionMethod = Field(
        default="product_of_experts",
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

    @model_validator(mode="after")
    def _scoring_that_ends(self) -> Self:
        num_answers = self.num_scoring_views * self.num_scored
        if num_answers > MAX_SCORED_PER_INPUT:
            raise ValueError(
                f"num_scoring_views times num_scored is at most {MAX_SCORED_PER_INPUT} answers per test input, "
                f"{self.num_scoring_views} times {self.num_scored} is {num_answers}"
            )
        return self

    @property
    def rescores(self) -> bool:
        """Whether the method needs the candidates scored again."""
        return self.method in RESCORING
