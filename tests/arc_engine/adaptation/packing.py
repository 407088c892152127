"""What the tests of packed training share: runs of every kind, and what becomes of them alone and in company."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.initialisation import LoraMatrices
from arc_engine.adaptation.pack import PackLimits, train_together
from arc_engine.adaptation.packed_batch import Portion
from arc_engine.adaptation.passes import Pass
from arc_engine.adaptation.run import Adaptation, Run
from arc_engine.adaptation.slots import Slot
from arc_engine.adaptation.steps import AdaptationStep
from arc_engine.adaptation.stopping import StopCause
from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.settings import AdaptationSettings, AugmentationSettings, PromptSettings
from arc_engine.tasks import Task, parse_task
from tests.arc_engine.adaptation.adapting import SETTINGS, TASK, adapt_to, changed

ONE_SEQUENCE: dict[str, Any] = {
    "augmentation": AugmentationSettings(dihedral=False, colours=False, pair_order=False),
    "examples": {"leave_one_out": "off"},
}
"""Settings with which a task gives the same sequence again and again."""
WIDE = PackLimits(max_runs=100, max_tokens=100_000, max_padding=0.7)
"""Nearly everybody goes with everybody."""


def square(side: int) -> Task:
    """A task of three pairs of grids with `side` cells to a side."""
    grids = [[[(row + column + colour) % 10 for column in range(side)] for row in range(side)] for colour in range(4)]
    pairs = [{"input": one, "output": other} for one, other in itertools.pairwise(grids)]
    task, _ = parse_task({"train": pairs, "test": [{"input": grids[0]}]})
    return task


@dataclass(frozen=True, eq=False)
class Wanted:
    """An adapter that somebody wants trained."""

    settings: AdaptationSettings = SETTINGS
    tasks: tuple[Task, ...] = (TASK,)
    initial: Adapter | None = None
    observe: Callable[[AdaptationStep], None] = lambda step: None


class KeptRun(Run):
    """A run that keeps its matrices in the precision that they were trained in."""

    matrices: dict[str, LoraMatrices]

    def adaptation(self, trained: dict[str, LoraMatrices], *, stopped_by: StopCause) -> Adaptation:
        self.matrices = trained
        return super().adaptation(trained, stopped_by=stopped_by)


class Trial:
    """A trainee that keeps everything it is told."""

    def __init__(self, base: LoadedBase, wanted: Wanted) -> None:
        self.steps: list[AdaptationStep] = []
        self.adaptation: Adaptation | None = None
        self.error: Exception | None = None
        self._observe = wanted.observe
        self.run = KeptRun(
            base,
            wanted.tasks,
            settings=wanted.settings,
            prompt=PromptSettings(),
            observe=self._record,
            initial=wanted.initial,
        )

    def _record(self, step: AdaptationStep) -> None:
        self.steps.append(step)
        self._observe(step)

    def done(self, adaptation: Adaptation) -> None:
        assert not self.has_ended
        self.adaptation = adaptation

    def failed(self, error: Exception) -> None:
        assert not self.has_ended
        self.error = error

    @property
    def has_ended(self) -> bool:
        return self.adaptation is not None or self.error is not None


def train_all(base: LoadedBase, *wanted: Wanted, limits: PackLimits = WIDE) -> list[Trial]:
    """All of them, let in in this order."""
    trials: list[Trial] = []

    def admit() -> Trial | None:
        if len(trials) == len(wanted):
            return None
        trials.append(Trial(base, wanted[len(trials)]))
        return trials[-1]

    train_together(base, admit, limits=limits)
    assert all(trial.has_ended for trial in trials)
    return trials


def alone(base: LoadedBase, wanted: Wanted) -> Trial:
    """The same without company."""
    (trial,) = train_all(base, wanted, limits=PackLimits())
    return trial


def assert_same(found: Trial, expected: Trial, *, tolerance: float) -> None:
    """What a run came to is the same within `tolerance`, relative; what is no rounding is just the same."""
    assert [(step.step, step.tokens, step.learning_rate) for step in found.steps] == [
        (step.step, step.tokens, step.learning_rate) for step in expected.steps
    ]
    for name in ("loss", "grad_norm"):
        found_numbers, expected_numbers = ([getattr(step, name) for step in one.steps] for one in (found, expected))
        assert found_numbers == pytest.approx(expected_numbers, rel=tolerance), name
    assert type(found.error) is type(expected.error)
    assert (found.adaptation is None) == (expected.adaptation is None)
    if found.adaptation is not None and expected.adaptation is not None:
        assert found.adaptation.stopped_by == expected.adaptation.stopped_by
        assert found.adaptation.adapter.config == expected.adaptation.adapter.config
        assert found.run.matrices.keys() == expected.run.matrices.keys()
        for name, pair in expected.run.matrices.items():
            assert distance(found.run.matrices[name].lora_a, pair.lora_a) < tolerance, name
            assert distance(found.run.matrices[name].lora_b, pair.lora_b) < tolerance, name


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Of two matrices, relative to the second."""
    return float((found - expected).norm() / expected.norm())


@contextmanager
def watched_passes() -> Iterator[list[list[tuple[Run, Portion]]]]:
    """What goes through the model together, pass by pass, for as long as the context lasts."""
    passes: list[list[tuple[Run, Portion]]] = []
    original = Pass.gradients

    def gradients(self: Pass, members: Sequence[tuple[Slot, Run]]) -> list[float]:
        passes.append([(run, run.portion) for _, run in members])
        return original(self, members)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pass, "gradients", gradients)
        yield passes


def in_float64(folder: Path) -> LoadedBase:
    """The base in a precision in which sums in another order are the same to about 1e-15."""
    base = load_base(folder, device="cpu")
    return replace(base, model=base.model.double())


def every_kind(base: LoadedBase) -> dict[str, Wanted]:
    """Runs that differ in everything that runs may differ in."""
    initial, _ = adapt_to(base, settings=changed(lora_rank=3, use_rslora=True, target_modules=["v_proj", "up_proj"]))
    some = Wanted
    return {
        "plain": some(),
        "another seed": some(changed(seed=8, max_steps=4)),
        "small": some(changed(lora_rank=1, lora_alpha=16.0, learning_rate=1e-3, lr_scheduler="cosine", seed=1)),
        "large": some(changed(lora_rank=12, lora_alpha=3.0, use_rslora=True, lr_scheduler="constant", max_steps=3)),
        "clipped": some(changed(batch_size=5, max_grad_norm=0.05, weight_decay=0.2, max_steps=4)),
        "dropout": some(changed(lora_dropout=0.3, batch_size=3, seed=3)),
        "some layers": some(changed(target_modules=["q_proj", "down_proj"], init="gaussian", lora_rank=3)),
        "one layer": some(changed(target_modules=["layers.1.mlp.up_proj"], lora_dropout=0.5, batch_size=1)),
        "orthogonal": some(changed(init="orthogonal", lora_rank=2, max_steps=5)),
        "pissa": some(changed(init="pissa", weight_decay=0.5, lora_dropout=0.1, max_steps=5)),
        "olora": some(changed(init="olora", use_rslora=True, target_modules=["o_proj", "k_proj"], seed=2)),
        "long": some(changed(batch_size=1, max_steps=3, lr_scheduler="constant_with_warmup"), (square(6),)),
        "short": some(changed(batch_size=4, max_steps=7, warmup_ratio=0.5), (square(1),)),
        "common": some(changed(batch_size=4, lora_dropout=0.2), (square(5), square(2), TASK)),
        "further": some(changed(lora_dropout=0.2, weight_decay=0.1), initial=initial.adapter),
        "low loss": some(changed(max_steps=30, stop_loss=100.0, seed=5)),
        "diverging": some(changed(learning_rate=0.3, max_grad_norm=1e6, divergence_norm=20.0, seed=1)),
    }
