"""The recipe of a pretraining run, as a YAML file: model shape, curriculum, optimiser, budget, seed."""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from arc_engine.encoders import CoordinateEncoder, parse_encoder
from arc_engine.pretraining.families import FAMILIES
from arc_engine.training.fingerprint import fingerprint

Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelShape(_Strict):
    """A Llama. `hidden_size` = `num_heads` x `head_dim`; lengths in tokens."""

    hidden_size: int = 192
    num_layers: int = 5
    intermediate_size: int = 512
    num_heads: int = 6
    rope_base: float = 500.0
    max_position_embeddings: int = 4096


class Beginning(_Strict):
    """What a new model's weights are, beside the usual: normal ones of deviation 0.02."""

    query_key_gain: float = 1.0
    """How much larger those of queries and keys are: attention that begins less even sooner finds what to look at."""
    zero_outputs: bool = False
    """Whether attention and feed-forward networks begin with adding nothing."""


class Stage(_Strict):
    """One part of the curriculum, which lasts until the share `until` of the budget is used."""

    name: str
    until: Share
    min_side: int = 2
    max_side: int
    """Largest side of a drawn grid, in cells; rules may make larger outputs of it."""
    level_weights: dict[int, float] = {}
    """How often families of each level are drawn, relative to one another."""
    families: tuple[str, ...] = ()
    """Instead of levels: these families alone, all equally often."""
    arc_share: tuple[Share, Share] = (0.0, 0.0)
    """Share of sequences from the ARC-AGI-1 training split, at the beginning and at the end of the stage."""
    max_tokens: int
    batch_tokens: int = 2400

    @model_validator(mode="after")
    def _draws_from_something(self) -> Self:
        if bool(self.level_weights) == bool(self.families):
            raise ValueError("give exactly one of level_weights and families")
        return self


class Optimisation(_Strict):
    """Muon for the matrices inside the blocks, AdamW for the rest; warm-up, plateau, linear decay to 0."""

    muon_learning_rate: float = 0.005
    muon_momentum: float = 0.95
    adamw_learning_rate: float = 0.001
    adamw_betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0
    warmup_steps: int = 50
    decay_from: Share = 0.7


class Guidance(_Strict):
    """Which heads are shown where the cells of synthetic outputs come from (`arc_engine.pretraining.guidance`).

    Layers and heads are counted from 0.
    """

    reading_layer: Annotated[int, Field(ge=0)] = 1
    """Looks there from the cell's own token: what the rule did."""
    applying_layer: Annotated[int, Field(ge=0)] = 3
    """Looks there from the token before the cell's: what the rule will do."""
    recalling_layer: Annotated[int, Field(ge=0)] | None = None
    """Looks from there at cells of earlier outputs that have the cell's colour, and come from its origin's colour."""
    head: Annotated[int, Field(ge=0)] = 0
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Of its loss, a sum over cells, beside that of answers."""
    max_cells: int = 64
    """Larger inputs are not traced, for which a rule is applied once per cell."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Those of the heads that are guided."""
        recalling = () if self.recalling_layer is None else (self.recalling_layer,)
        return (self.reading_layer, self.applying_layer, *recalling)


class Held(_Strict):
    """What validation measures; none of it is trained on."""

    every_s: float = 600.0
    tasks_per_family: int = 4
    max_side: int = 7
    arc_every: int = 10
    """Of the ARC training tasks that are short enough, sorted by id, every n-th is held out."""
    families: tuple[str, ...] = ()
    """Synthetic families that are never trained on. Of all others, fresh tasks are measured."""
    arc_max_tokens: int = 700


class Recipe(_Strict):
    """Everything that decides a run.

    Exactly one of `max_steps` (reproducible) and `hours` (wall time: as far as this machine comes) is the budget.
    """

    name: str
    seed: int
    model: ModelShape = ModelShape()
    beginning: Beginning = Beginning()
    start_from: str | None = None
    """What to go on with, a model of this shape and encoder: `bundled:NAME`, or a folder. None begins from nothing."""
    stages: list[Stage]
    grid_encoder: str = "MinimalGridEncoder()"
    """How grids are written; adapting and sampling have to write them the same way."""
    arc_agi_2: bool = False
    """Whether ARC-AGI-2's training tasks, as far as they are new and no evaluation tasks, join those of ARC-AGI-1."""
    pairs: tuple[int, int] = (3, 5)
    keep_background: Share = 0.6
    pool_sequences: int = 192
    gradient_accumulation: Annotated[int, Field(ge=1)] = 1
    """Batches per step, a multiple of the number of processes, which share them."""
    optimisation: Optimisation = Optimisation()
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: matrix products are computed in it, weights stay float32. Pays on GPUs, and on processors with AMX."""
    compile: bool = False
    """Has torch compile the layers first, half a minute, for which it needs a C++ compiler."""
    guidance: Guidance | None = None
    """Needs tokens that name their place: `grid_encoder: CoordinateEncoder()`."""
    held_out: Held = Held()
    max_steps: int | None = None
    hours: float | None = None
    checkpoint_every_s: float = 300.0
    checkpoint_every_steps: int | None = None
    log_every_steps: int = 20

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.max_steps is None) == (self.hours is None):
            raise ValueError("give exactly one of max_steps and hours")
        ends = [stage.until for stage in self.stages]
        if not ends or ends != sorted(ends) or ends[-1] != 1:
            raise ValueError("stages end at rising shares of the budget, the last one at 1")
        return self

    def stage_at(self, progress: float) -> tuple[Stage, float]:
        """The stage at `progress` 0..1 of the budget, and how much of that stage is over."""
        begin = 0.0
        for stage in self.stages:
            if progress < stage.until or stage is self.stages[-1]:
                return stage, min(1.0, (progress - begin) / max(stage.until - begin, 1e-9))
            begin = stage.until
        raise AssertionError("unreachable: the last stage always matches")

    @field_validator("grid_encoder")
    @classmethod
    def _is_an_encoder(cls, value: str) -> str:
        parse_encoder(value)
        return value

    @model_validator(mode="after")
    def _can_be_guided(self) -> Self:
        if self.guidance is not None:
            if not isinstance(parse_encoder(self.grid_encoder), CoordinateEncoder):
                raise ValueError("guidance: needs grid_encoder: CoordinateEncoder()")
            if max(self.guidance.layers) >= self.model.num_layers:
                raise ValueError(f"guidance: the model's layers are 0 to {self.model.num_layers - 1}")
            if self.guidance.head >= self.model.num_heads:
                raise ValueError(f"guidance: the model's heads are 0 to {self.model.num_heads - 1}")
        return self

    @model_validator(mode="after")
    def _names_families(self) -> Self:
        held_out = set(self.held_out.families)
        for place, families in [("held_out", held_out), *((f"stage {one.name}", one.families) for one in self.stages)]:
            unknown = sorted(set(families) - set(FAMILIES))
            if unknown:
                raise ValueError(f"{place}: families: there is no family {', '.join(unknown)}")
        for stage in self.stages:
            both = sorted(held_out & set(stage.families))
            if both:
                raise ValueError(f"stage {stage.name}: families: held out: {', '.join(both)}")
        return self

    def fingerprint(self) -> str:
        """The same for recipes that differ in their budget, or in when they log, validate and save."""
        return fingerprint(self, free={"held_out": {"every_s"}})

    def with_budget(self, *, hours: float) -> "Recipe":
        """The same recipe limited by wall time."""
        return Recipe.model_validate({**self.model_dump(), "hours": hours, "max_steps": None})


def load_recipe(path: Path) -> Recipe:
    """Reads and checks a recipe file; the folder that it goes on with may be relative to it."""
    recipe = Recipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    beside = path.parent / (recipe.start_from or "")
    if recipe.start_from is None or not beside.is_dir():
        return recipe
    return recipe.model_copy(update={"start_from": str(beside.resolve())})
