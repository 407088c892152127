"""Settings: defaults filled in, unknown and impossible ones refused with their place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from arc_engine.settings import (
    AdaptationSettings,
    AugmentationSettings,
    ExampleSettings,
    PromptSettings,
    SamplingSettings,
    SelectionSettings,
    SolveSettings,
)
from arc_engine.views import ViewDistribution

pytestmark = pytest.mark.fast


def test_nothing_said_is_every_default():
    settings = SolveSettings.model_validate({})
    assert settings == SolveSettings()
    assert settings.base_model == "arc-mini"
    assert settings.adaptation == AdaptationSettings()


def test_what_is_not_said_stays_at_its_default():
    settings = SolveSettings.model_validate({"adaptation": {"max_steps": 3, "augmentation": {"dihedral": False}}})
    assert settings.adaptation.max_steps == 3
    assert settings.adaptation.learning_rate == AdaptationSettings().learning_rate
    assert settings.adaptation.augmentation == AugmentationSettings(dihedral=False)


def test_no_adaptation_is_the_baseline():
    assert SolveSettings.model_validate({"adaptation": None}).adaptation is None


adaptations = st.builds(
    AdaptationSettings,
    lora_rank=st.integers(1, 256),
    lora_alpha=st.floats(0.1, 4096),
    max_steps=st.integers(1, 100_000),
    learning_rate=st.floats(1e-9, 1),
    lr_scheduler=st.sampled_from(["linear", "cosine", "constant", "constant_with_warmup"]),
    warmup_ratio=st.floats(0, 0.99),
    examples=st.builds(
        ExampleSettings,
        loss_on=st.sampled_from(["test_output", "later_outputs", "all_outputs"]),
        leave_one_out=st.sampled_from(["random", "rotate", "off"]),
    ),
    target_modules=st.just("all-linear") | st.lists(st.sampled_from(["q_proj", "v_proj"]), min_size=1).map(tuple),
    init=st.sampled_from(["default", "gaussian", "pissa_niter_8"]),
    stop_loss=st.none() | st.floats(1e-6, 100),
    augmentation=st.builds(AugmentationSettings, dihedral=st.booleans(), keep_background=st.floats(0, 1)),
    seed=st.integers(0, 2**31 - 1),
)


@given(st.none() | adaptations)
def test_settings_survive_the_jobs_row(adaptation):
    settings = SolveSettings(adaptation=adaptation)
    assert SolveSettings.model_validate(settings.model_dump(mode="json")) == settings
    assert SolveSettings.model_validate_json(settings.model_dump_json()) == settings


INVALID = [
    (["unknown"], 1),
    (["adaptation", "unknown"], 1),
    (["adaptation", "augmentation", "unknown"], True),
    (["prompt", "unknown"], 1),
    (["sampling", "unknown"], 1),
    (["selection", "unknown"], 1),
    (["adaptation"], []),
    (["prompt"], None),
    (["adaptation", "max_steps"], 0),
    (["adaptation", "max_steps"], -1),
    (["adaptation", "max_steps"], 1.5),
    (["adaptation", "max_steps"], "10"),
    (["adaptation", "max_steps"], True),
    (["adaptation", "max_steps"], 10**6),
    (["adaptation", "lora_rank"], 0),
    (["adaptation", "lora_rank"], 513),
    (["adaptation", "lora_alpha"], 0),
    (["adaptation", "batch_size"], 0),
    (["adaptation", "learning_rate"], 0),
    (["adaptation", "learning_rate"], float("nan")),
    (["adaptation", "learning_rate"], float("inf")),
    (["adaptation", "learning_rate"], "2e-3"),
    (["adaptation", "warmup_ratio"], 1),
    (["adaptation", "max_grad_norm"], 0),
    (["adaptation", "max_seq_len"], 1),
    (["adaptation", "lr_scheduler"], "exponential"),
    (["adaptation", "loss_on"], "inputs"),
    (["adaptation", "seed"], -1),
    (["adaptation", "seed"], 2**31),
    (["adaptation", "augmentation", "dihedral"], 1),
    (["adaptation", "augmentation", "keep_background"], 1.1),
    (["prompt", "version"], "verbose"),
    (["prompt", "grid_encoder"], "NoSuchEncoder()"),
    (["prompt", "grid_encoder"], "__import__('os').getcwd()"),
    (["sampling", "backend"], "tensorrt"),
    (["sampling", "method"], "beam"),
    (["sampling", "num_views"], 0),
    (["sampling", "temperature"], 0),
    (["sampling", "temperature"], 0.009),
    (["sampling", "temperature"], 2.1),
    (["sampling", "top_p"], 0),
    (["sampling", "max_new_tokens"], 0),
    (["sampling", "min_probability"], 0),
    (["sampling", "min_probability"], 1),
    (["sampling", "max_nodes"], 0),
    (["sampling", "time_budget_s"], 0),
    (["sampling", "grid_tokens_only"], 1),
    (["sampling", "when_too_long"], "truncate"),
    (["selection", "method"], "oracle"),
    (["selection", "num_scoring_views"], 0),
    (["selection", "num_scored"], 1),
    (["base_model"], ""),
    (["base_model"], "x" * 101),
    (["base_model"], "../secret"),
    (["base_model"], "a\x00b"),
    (["base_model"], "\ud800"),
]


@pytest.mark.parametrize(("path", "value"), INVALID, ids=[f"{'/'.join(path)}={value!r:.20}" for path, value in INVALID])
def test_what_is_unknown_or_impossible_is_refused_with_its_place(path, value):
    tree = value
    for name in reversed(path):
        tree = {name: tree}
    with pytest.raises(ValidationError) as refused:
        SolveSettings.model_validate(tree)
    assert [list(error["loc"]) for error in refused.value.errors()] == [path]


@pytest.mark.parametrize("method", ["greedy", "dfs"])
def test_only_sampling_repeats(method):
    with pytest.raises(ValidationError, match="samples_per_view must be 1"):
        SolveSettings.model_validate({"sampling": {"method": method, "samples_per_view": 2}})
    assert SolveSettings.model_validate({"sampling": {"method": "sample", "samples_per_view": 2}})


def test_only_torch_searches_depth_first():
    with pytest.raises(ValidationError, match="backend must be torch or auto"):
        SamplingSettings(method="dfs", backend="vllm")
    assert SamplingSettings(method="dfs").backend == "auto"
    assert SamplingSettings(method="dfs", backend="torch")


@pytest.mark.parametrize("method", ["product_of_experts", "probmul", "view_count_logprob"])
def test_methods_that_score_again_say_so(method):
    assert SelectionSettings(method=method).rescores
    assert not SelectionSettings(method="vote").rescores
    assert not SelectionSettings(method="hierarchical_vote").rescores


def test_the_answers_of_one_input_are_bounded():
    sampling = {"method": "sample", "num_views": 1024, "samples_per_view": 4}
    assert SamplingSettings.model_validate(sampling)
    with pytest.raises(ValidationError, match=r"num_views times samples_per_view .* 1024 times 5 is 5120"):
        SamplingSettings.model_validate({**sampling, "samples_per_view": 5})


def test_the_answers_that_are_scored_again_are_bounded():
    assert SelectionSettings(num_scoring_views=256, num_scored=16)
    assert SelectionSettings(num_scoring_views=1, num_scored=4096)
    with pytest.raises(ValidationError, match=r"num_scoring_views times num_scored .* 8 times 513 is 4104"):
        SelectionSettings(num_scored=513)


@pytest.mark.parametrize("init", ["gaussian", "orthogonal", "olora", "pissa", "pissa_niter_4"])
def test_an_adapter_that_is_there_has_its_initial_weights(init):
    with pytest.raises(ValidationError, match=f"init {init} is for a new adapter"):
        AdaptationSettings(start="continue", init=init)


@pytest.mark.parametrize("init", ["olora", "pissa"])
def test_a_warm_up_starts_with_any_init_that_leaves_the_base_alone(init):
    with pytest.raises(ValidationError, match=f"init {init} is for start new"):
        AdaptationSettings(start="warm", init=init)
    assert AdaptationSettings(start="warm", init="gaussian").init == "gaussian"


def test_target_modules_are_bounded():
    assert AdaptationSettings(target_modules=("q_proj",) * 256)
    with pytest.raises(ValidationError, match="at most 256"):
        AdaptationSettings(target_modules=("q_proj",) * 257)


def test_whole_numbers_are_rates_too():
    settings = SolveSettings.model_validate({"adaptation": {"lora_alpha": 64, "learning_rate": 1}})
    assert settings.adaptation.lora_alpha == 64.0


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError):
        SolveSettings().base_model = "other"


def test_the_switches_reach_the_views():
    augmentation = AugmentationSettings(dihedral=False, colours=False, keep_background=0.5, pair_order=False)
    assert augmentation.distribution() == ViewDistribution(
        dihedral=False, colours=False, keep_background=0.5, pair_order=False
    )


@pytest.mark.parametrize(
    "model",
    [SolveSettings, AdaptationSettings, AugmentationSettings, PromptSettings, SamplingSettings, SelectionSettings],
)
def test_every_value_is_described(model):
    groups = {"prompt", "sampling", "selection", "augmentation", "examples"}
    assert [name for name, field in model.model_fields.items() if not field.description and name not in groups] == []
