import json

import pytest

from arc_engine.base_models.loading import load_base
from arc_engine.settings import AdaptationSettings
from benchmarks.adapting_jobs import TOLERANCE, jobs_of, real_tasks, synthetic_task
from benchmarks.adapting_models import FOLDER, SHAPES, load
from benchmarks.adapting_plan import LENGTHS, NUM_REAL_TASKS, Cell


@pytest.fixture(scope="module")
def arc_mini():
    return load_base(FOLDER, device="cpu")


@pytest.fixture
def folder(tmp_path):
    """Tasks of 40 sizes, one a file."""
    for number in range(40):
        grid = [[number % 10] * (1 + number // 2)] * (1 + (number + 1) // 2)
        pair = {"input": grid, "output": grid}
        document = {"train": [pair, pair], "test": [pair]}
        (tmp_path / f"{number:02}.json").write_text(json.dumps(document), encoding="utf-8")
    return str(tmp_path)


@pytest.mark.parametrize("length", [int(length) for length in LENGTHS])
def test_synthetic_sequences_have_the_length_that_is_asked_for(length, arc_mini):
    cell = Cell("arc-mini", str(length), batch_size=2, steps=2, learning_rate=1e-3, ways=())
    [job] = jobs_of(cell, arc_mini, source="")
    lengths = {len(example) for batch in job.batches for example in batch}
    assert len(lengths) == 1
    assert length - TOLERANCE <= lengths.pop() <= length
    assert all(any(example.is_target) for batch in job.batches for example in batch)


def test_a_length_that_no_task_has_is_refused(arc_mini):
    with pytest.raises(ValueError, match="4 tokens"):
        synthetic_task(4, arc_mini.tokenizer)


def test_real_tasks_are_the_shortest_or_spread_over_all_lengths(folder, arc_mini):
    shortest = real_tasks(folder, arc_mini, data="shortest")
    assert list(shortest) == [f"{number:02}" for number in range(NUM_REAL_TASKS)]
    spread = real_tasks(folder, arc_mini, data="spread")
    assert list(spread) == ["02", "07", "12", "17", "22", "27", "32", "37"]


def test_a_job_holds_what_it_is_trained_on_step_by_step(folder, arc_mini):
    cell = Cell("arc-mini", "shortest", batch_size=3, steps=4, learning_rate=1e-3, ways=())
    jobs = jobs_of(cell, arc_mini, source=folder)
    assert [len(batch) for batch in jobs[0].batches] == [3] * 4
    assert jobs[0].num_tokens == sum(len(example) for batch in jobs[0].batches for example in batch)
    assert jobs[0].first_steps(2).batches == jobs[0].batches[:2]
    whole_batches = AdaptationSettings(batch_tokens=None, stop_loss=None)
    assert cell.settings() == whole_batches.model_copy(update={"max_steps": 4, "batch_size": 3, "learning_rate": 1e-3})


def test_the_shapes_are_those_that_are_published():
    with_output_layer = {"smollm2-135m": 134.5, "qwen2.5-0.5b": 494.0, "qwen2.5-1.5b": 1543.7, "qwen2.5-7b": 7615.6}
    for name, (kind, shape) in SHAPES.items():
        config = kind(**shape)
        head_dim = config.hidden_size // config.num_attention_heads
        width, inner, values = config.hidden_size, config.intermediate_size, config.num_key_value_heads * head_dim
        biases = 0 if name.startswith("smollm2") else width + 2 * values
        layer = 2 * width * width + 2 * width * values + 3 * width * inner + 2 * width + biases
        embeddings = config.vocab_size * width * (1 if config.tie_word_embeddings else 2)
        total = config.num_hidden_layers * layer + embeddings + width
        assert round(total / 1e6, 1) == with_output_layer[name]


def test_a_shape_has_random_weights_and_reads_the_tokens_of_arc_mini(monkeypatch, arc_mini):
    kind, shape = SHAPES["smollm2-135m"]
    monkeypatch.setitem(SHAPES, "smollm2-135m", (kind, {**shape, "num_hidden_layers": 1}))
    base = load("smollm2-135m", device="cpu")
    assert base.model.config.vocab_size >= arc_mini.model.config.vocab_size
    assert base.tokenizer.encode("I12\n3", add_special_tokens=False) == arc_mini.tokenizer.encode(
        "I12\n3", add_special_tokens=False
    )
    assert not any(weights.requires_grad for weights in base.model.parameters())
    assert load("smollm2-135m", device="cpu", full_vocabulary=True).model.config.vocab_size == 49152
