"""What is measured: which ways of training adapters, on which models and sequences."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias

from arc_engine.settings import AdaptationSettings

Kind: TypeAlias = Literal["trainer", "loop", "ours"]

SHORTEST: Final = "shortest"
SPREAD: Final = "spread"
REAL: Final = (SHORTEST, SPREAD)
NUM_REAL_TASKS: Final = 8
LENGTHS: Final = ("256", "512", "1024", "2048", "4096")
ARC_MINI: Final = "arc-mini"
TASK_STEPS: Final = AdaptationSettings().max_steps
"""Of a task, where tasks per hour are given: the service's default."""
WINDOW: Final = 10
"""Steps whose losses are compared one by one at the beginning, and as a mean at the end."""

_TITLES: Final[dict[Kind, str]] = {"trainer": "Trainer + PEFT", "loop": "PEFT loop", "ours": "arcadapt"}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to train adapters, in one process with all cores or in one process per core."""

    kind: Kind
    pack: int = 1
    """Adapters that are trained together."""
    per_core: bool = False
    autocast: bool = False
    """Whether the loop computes under bfloat16 autocast, as the Trainer does on a GPU."""

    @property
    def title(self) -> str:
        """What tables call it."""
        parts = [_TITLES[self.kind]]
        if self.kind == "ours":
            parts.append(f"K = {self.pack}")
        if self.autocast:
            parts.append("autocast")
        if self.per_core:
            parts.append("a process per core")
        return ", ".join(parts)


TRAINER: Final = Way("trainer")
LOOP: Final = Way("loop")
"""Whose losses the others are compared with."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one kind of sequences, trained in every way."""

    model: str
    data: str
    """`shortest` or `spread` for real tasks, or the length of synthetic sequences."""
    batch_size: int
    steps: int
    learning_rate: float
    ways: tuple[Way, ...]

    @property
    def name(self) -> str:
        """The start of its file's name."""
        return f"{self.model}-{self.data}"

    @property
    def is_real(self) -> bool:
        """Whether its tasks are those of a dataset."""
        return self.data in REAL

    def settings(self, *, steps: int | None = None) -> AdaptationSettings:
        """The defaults, but for what the cell says, and all steps with whole batches; synthetic sequences are never
        longer than it says."""
        return AdaptationSettings(
            max_steps=steps or self.steps,
            batch_size=self.batch_size,
            batch_tokens=None,
            stop_loss=None,
            learning_rate=self.learning_rate,
            max_seq_len=AdaptationSettings().max_seq_len if self.is_real else int(self.data),
        )

    def digest(self, conditions: dict[str, Any]) -> str:
        """A short name that equal cells share if they are measured under equal conditions with equal settings."""
        meant = [asdict(self), self.settings().model_dump(mode="json"), conditions]
        return hashlib.sha256(json.dumps(meant, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Preset:
    """What is measured of a model unless the command says otherwise."""

    data: tuple[str, ...]
    batch_size: int
    packs: tuple[int, ...]
    learning_rate: float = AdaptationSettings().learning_rate
    steps: tuple[tuple[str, int], ...] = ()
    """Of each kind of sequences; the others have `DEFAULT_STEPS`."""
    per_core: bool = False

    def steps_of(self, data: str) -> int:
        """How many steps an adapter is trained for; the first is its start-up, so there are two at least."""
        return dict(self.steps).get(data, DEFAULT_STEPS)


DEFAULT_STEPS: Final = 10
PACKS_WITHIN: Final = {4: 1024, 16: 512}
"""Longest synthetic sequences, in tokens, that so many adapters are trained on together on a processor, where it is
not the number of sequences that long ones wait for."""
PACK_OF_SPREAD: Final = 4
"""Most adapters that are trained together on real tasks of all lengths there."""
PACK_PER_CORE: Final = 4
"""Adapters that each of several processes trains together, beside one at a time."""

ON_CPU: Final = {
    ARC_MINI: Preset(
        data=(*REAL, *LENGTHS),
        batch_size=4,
        packs=(1, 4, 16),
        steps=((SPREAD, 3), ("512", 6), ("1024", 4), ("2048", 3), ("4096", 2)),
        per_core=True,
    ),
    "smollm2-135m": Preset(
        data=LENGTHS[:3],
        batch_size=1,
        packs=(1, 4),
        learning_rate=1e-4,
        steps=tuple((length, 3) for length in LENGTHS),
    ),
}
_LARGE: Final = Preset(
    data=LENGTHS,
    batch_size=4,
    packs=(1, 4, 16, 64),
    learning_rate=1e-4,
    steps=(("1024", 6), ("2048", 4), ("4096", 4)),
)
ON_GPU: Final = {"qwen2.5-0.5b": _LARGE, "qwen2.5-1.5b": _LARGE, "qwen2.5-7b": _LARGE}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line changes of the presets; None leaves theirs."""

    models: Sequence[str] | None = None
    data: Sequence[str] | None = None
    packs: Sequence[int] | None = None
    steps: int | None = None
    batch_size: int | None = None


def cells(wanted: Wanted, *, device: str, num_cores: int) -> Iterator[Cell]:
    """What is to be measured, model by model, the real tasks of a model first."""
    on_gpu = device.startswith("cuda")
    presets = ON_GPU if on_gpu else ON_CPU
    for model in wanted.models or presets:
        preset = presets.get(model, _LARGE if on_gpu else ON_CPU["smollm2-135m"])
        for data in wanted.data or preset.data:
            packs = wanted.packs or tuple(pack for pack in preset.packs if on_gpu or _within(pack, data))
            yield Cell(
                model=model,
                data=data,
                batch_size=wanted.batch_size or preset.batch_size,
                steps=wanted.steps or preset.steps_of(data),
                learning_rate=preset.learning_rate,
                ways=tuple(_ways(packs, data=data, on_gpu=on_gpu, per_core=preset.per_core and num_cores > 1)),
            )


def _ways(packs: Sequence[int], *, data: str, on_gpu: bool, per_core: bool) -> Iterator[Way]:
    yield from (TRAINER, LOOP)
    if on_gpu:
        yield Way("loop", autocast=True)
    yield from (Way("ours", pack) for pack in packs)
    if per_core:
        if data in REAL:
            yield from (Way("trainer", per_core=True), Way("loop", per_core=True))
            yield Way("ours", PACK_PER_CORE, per_core=True)
        yield Way("ours", per_core=True)


def _within(pack: int, data: str) -> bool:
    if data in REAL:
        return data == SHORTEST or pack <= PACK_OF_SPREAD
    return int(data) <= PACKS_WITHIN.get(pack, int(data))
