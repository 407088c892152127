"""Records of measured tasks, made up."""

from benchmarks.sampling_plan import SAMPLERS, SELECTORS

RIGHT = [1.0, -0.5, 1.0, True, True, 16, 16]  # in the order of `ATTEMPT`
WRONG = [0.25, -6.0, -1.0, False, False, 4, 4]


def sampled(*, pass_at_2=0.0, attempts=(RIGHT, WRONG), found_any=1.0, **by_selector):
    """What one sampler made of a task; selectors named have another pass@2."""
    return {
        "error": None,
        "found_any": found_any,
        "candidates": 3.0,
        "completions": 16.0,
        "num_completions": [16],
        "num_views": 16,
        "refused": 0.25,
        "unanswered": 0.0,
        "cut": 0.0,
        "num_tokens": 100,
        "sample_s": 2.0,
        "score_s": 1.0,
        "selectors": {
            name: {"pass_at_2": by_selector.get(name, pass_at_2), "attempts": [list(attempts)]} for name in SELECTORS
        },
    }


def task(task_id="00000001", **samplers):
    """A task that was adapted to and answered."""
    return {
        "task_id": task_id,
        "error": None,
        "num_inputs": 1,
        "adapt_s": 30.0,
        "last_loss": 0.05,
        "samplers": {name: samplers.get(name, sampled()) for name in SAMPLERS},
        "any_token": {
            "error": None,
            "pass_at_2": 1.0,
            "refused": 0.5,
            "num_equal": 12,
            "num_prompts": 16,
            "sample_s": 4.0,
        },
    }


def failed(task_id="0000000f"):
    """A task that could not be adapted to."""
    return {"task_id": task_id, "error": "diverged"}
