"""Adapting a real tiny model: it learns, repeats bit for bit, and leaves no trace in the base."""

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from arc_engine.adaptation.adapt import adapt
from arc_engine.adaptation.lora import lora_layers
from arc_engine.adaptation.schedule import learning_rate_factor
from arc_engine.base_models.loading import load_base
from arc_engine.errors import AdaptationStopped, BaseModelError, Diverged, EncoderUnsupported, TaskTooLong
from arc_engine.settings import AugmentationSettings, PromptSettings
from arc_engine.tasks import parse_task
from tests.arc_engine.adaptation.adapting import MIRROR, SETTINGS, TASK, adapt_to, changed, losses, numbers
from tests.arc_engine.adaptation.lora_training import fingerprint, global_randomness, stir_global_randomness
from tests.arc_engine.adaptation.packing import watched_passes


@pytest.fixture(scope="module", params=["tiny_base", "tiny_qwen2"])
def base(request):
    return load_base(request.getfixturevalue(request.param), device="cpu")


@pytest.fixture(scope="module")
def llama(tiny_base):
    return load_base(tiny_base, device="cpu")


def run(base, *tasks, settings=SETTINGS, observe=None):
    adaptation, steps = adapt_to(base, *tasks, settings=settings, observe=observe)
    return adaptation.adapter, steps


@pytest.fixture
def randomness():
    """Reads the global random state, which starts at one that no adaptation leaves behind."""
    stir_global_randomness()
    return global_randomness


def test_every_step_is_told_and_the_loss_falls(base):
    settings = changed(max_steps=40, augmentation=AugmentationSettings(dihedral=False, colours=False))
    _, steps = run(base, settings=settings)
    assert [step.step for step in steps] == list(range(1, 41))
    assert sum(step.loss for step in steps[-5:]) < 0.5 * sum(step.loss for step in steps[:5])
    assert all(math.isfinite(step.loss) and step.grad_norm > 0 for step in steps)
    assert [step.learning_rate for step in steps] == [
        5e-3 * learning_rate_factor(step.step, scheduler="linear", max_steps=40, warmup_ratio=0.05) for step in steps
    ]
    elapsed = [step.elapsed_s for step in steps]
    assert elapsed == sorted(elapsed)
    assert elapsed[0] > 0


def test_tokens_are_those_of_the_sequences(base):
    # Per pair I, O and <eos> and the grids' cells and line ends: 3 + 5 + 5, 3 + 3 + 3, 3 + 3 + 3; <bos>, if any.
    start = 0 if base.tokenizer.bos_token_id is None else 1
    settings = changed(max_steps=2, batch_size=3, augmentation=AugmentationSettings(dihedral=False))
    _, steps = run(base, settings=settings)
    assert [step.tokens for step in steps] == [3 * (start + 13 + 9 + 9)] * 2


@pytest.mark.parametrize(
    ("sequences", "and_tokens", "taken"), [(0, 1, 1), (1, 0, 1), (1, 1, 2), (2, 0, 2), (2, 1, 3), (9, 0, 3)]
)
def test_a_step_takes_no_further_sequence_once_it_has_its_tokens(base, sequences, and_tokens, taken):
    length = (base.tokenizer.bos_token_id is not None) + 13 + 9 + 9
    settings = changed(
        max_steps=2,
        batch_size=3,
        batch_tokens=sequences * length + and_tokens,
        augmentation=AugmentationSettings(dihedral=False),
    )
    _, steps = run(base, settings=settings)
    assert [step.tokens for step in steps] == [taken * length] * 2


def test_the_first_loss_is_that_of_the_base_model(base):
    _, first = run(base, settings=changed(max_steps=1))
    _, other_adapter = run(base, settings=changed(max_steps=1, lora_rank=8, lora_alpha=100.0))
    assert first[0].loss == other_adapter[0].loss


def test_the_same_seed_gives_the_same_losses_and_weights_bit_for_bit(base):
    adapter, steps = run(base)
    again, steps_again = run(base)
    assert numbers(steps) == numbers(steps_again)
    assert adapter.config == again.config
    assert all(torch.equal(adapter.tensors[name], again.tensors[name]) for name in adapter.tensors)


def test_another_process_gets_the_same_losses_bit_for_bit(llama, tmp_path):
    script = """
import json, sys
from pathlib import Path
import torch
from arc_engine.adaptation.adapt import adapt
from arc_engine.adaptation.lora import lora_layers
from arc_engine.base_models.loading import load_base
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import parse_task
request = json.loads(sys.stdin.read())
torch.set_num_threads(request["num_threads"])
torch.manual_seed(1234)  # somebody else's use of the global generator makes no difference
losses = []
adapt(load_base(Path(request["base"]), device="cpu"), [parse_task(request["task"])[0]],
      settings=AdaptationSettings.model_validate(request["settings"]), prompt=PromptSettings(),
      observe=lambda step: losses.append(step.loss.hex()))
print(json.dumps(losses))
"""
    request = {
        "base": str(llama.folder),
        "task": MIRROR,
        "settings": SETTINGS.model_dump(),
        "num_threads": torch.get_num_threads(),
    }
    child = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(request), capture_output=True, text=True, check=True
    )
    _, steps = run(llama)
    assert json.loads(child.stdout) == [step.loss.hex() for step in steps]


def test_another_seed_gives_other_losses(llama):
    _, steps = run(llama)
    _, others = run(llama, settings=changed(seed=8))
    assert losses(steps) != losses(others)


def test_the_base_and_the_global_random_state_are_as_before(base, randomness):
    before, random_state = fingerprint(base), randomness()
    run(base)
    assert fingerprint(base) == before
    assert randomness() == random_state


@pytest.mark.parametrize("error", [AdaptationStopped("cancelled"), KeyboardInterrupt(), ValueError("a fault of ours")])
def test_an_observer_that_raises_stops_the_training_and_leaves_the_base_as_before(base, error, randomness):
    before, random_state = fingerprint(base), randomness()
    seen = []

    def stop(step):
        seen.append(step.step)
        if step.step == 2:
            raise error

    with pytest.raises(type(error)) as raised:
        run(base, observe=stop)
    assert raised.value is error
    assert seen == [1, 2]
    assert fingerprint(base) == before
    assert randomness() == random_state


def test_a_step_that_is_not_finite_is_an_error_and_not_a_step(tiny_base):
    base = load_base(tiny_base, device="cpu")
    base.model.model.layers[1].mlp.up_proj.weight.data[0, 0] = math.nan
    seen = []
    with pytest.raises(Diverged) as diverged:
        run(base, observe=seen.append)
    assert diverged.value.step == 1
    assert math.isnan(diverged.value.loss)
    assert str(diverged.value) == "step 1: the loss is nan"
    assert seen == []
    assert not hasattr(base.model, "peft_config")


def test_a_gradient_beyond_its_bound_is_an_error_that_names_the_step(llama):
    before = fingerprint(llama)
    _, steps = run(llama)
    norms = [step.grad_norm for step in steps]
    bound = sorted(norms)[-2]  # all but one step are within it, one of them just so
    with pytest.raises(
        Diverged, match=rf"step {norms.index(max(norms)) + 1}: the gradient norm, .* is above"
    ) as raised:
        run(llama, settings=changed(divergence_norm=bound))
    assert raised.value.grad_norm == max(norms)
    assert fingerprint(llama) == before


def test_an_adaptation_within_another_is_as_it_is_alone_and_disturbs_nobody(base):
    expected, expected_steps = run(base)
    inner = []

    def adapt_again(step):
        inner.append(run(base, settings=changed(max_steps=step.step)))

    adapter, steps = run(base, observe=adapt_again)
    assert numbers(steps) == numbers(expected_steps)
    assert all(torch.equal(adapter.tensors[name], tensor) for name, tensor in expected.tensors.items())
    last, last_steps = inner[-1]
    assert numbers(last_steps) == numbers(expected_steps)
    assert all(torch.equal(last.tensors[name], tensor) for name, tensor in expected.tensors.items())


def test_a_base_that_carries_an_adapter_is_refused_and_left_alone(llama):
    with lora_layers(llama, settings=changed(lora_rank=2)):
        before = fingerprint(llama)
        with pytest.raises(BaseModelError, match="carries an adapter already"):
            run(llama)
        assert fingerprint(llama) == before


def test_a_task_that_fits_no_sequence_is_too_long(llama):
    before = fingerprint(llama)
    large = [[1] * 30] * 30
    task, _ = parse_task({"train": [{"input": large, "output": large}] * 2, "test": [{"input": large}]})
    with pytest.raises(TaskTooLong):
        run(llama, task, settings=changed(max_seq_len=64))
    assert fingerprint(llama) == before


def test_an_encoder_that_the_tokenizer_cannot_write_is_refused_before_training(llama):
    greek = PromptSettings(grid_encoder=f"ReplaceNumberEncoder(MinimalGridEncoder(), {list('αβγδεζηθικ')})")
    steps = []
    with pytest.raises(EncoderUnsupported, match="<unk>"):
        adapt(llama, [TASK], settings=SETTINGS, prompt=greek, observe=steps.append)
    assert steps == []


def test_the_models_own_positions_bound_the_sequence(llama):
    large = [[1] * 30] * 30
    pairs = [{"input": large, "output": large}] * 5  # 1,861 tokens each; the model has 4,096 positions
    task, _ = parse_task({"train": pairs, "test": [{"input": large}]})
    _, steps = run(llama, task, settings=changed(max_seq_len=100_000, max_steps=1, batch_size=1))
    assert steps[0].tokens == 1 + 2 * 1861


def test_a_task_with_one_pair_is_adapted_to(llama):
    task, _ = parse_task({"train": MIRROR["train"][:1], "test": MIRROR["test"]})
    _, steps = run(llama, task)
    assert len(steps) == 6


def test_test_outputs_sent_by_the_client_change_nothing(llama):
    def sent(output):
        return {**MIRROR, "test": [{"input": [[3, 2, 1]], "output": output}]}

    (right, right_solution), (wrong, wrong_solution) = parse_task(sent([[1, 2, 3]])), parse_task(sent([[9, 9], [9, 9]]))
    assert right_solution != wrong_solution
    assert right == wrong == TASK
    _, steps = run(llama, right)
    _, others = run(llama, wrong)
    assert losses(steps) == losses(others)


def test_weight_decay_clipping_and_alpha_do_what_they_say(llama):
    def last_loss(**values):
        return run(llama, settings=changed(**values))[1][-1].loss

    plain = last_loss()
    assert last_loss(weight_decay=0.5) != plain
    assert last_loss(max_grad_norm=1e-6) != plain
    assert last_loss(lora_alpha=16.0) != plain
    assert last_loss(lora_rank=2) != plain


def test_tasks_share_one_adapter(llama):
    other, _ = parse_task(
        {**MIRROR, "train": [{"input": [[1, 1]], "output": [[2]]}, {"input": [[3]], "output": [[4]]}]}
    )
    settings = changed(max_steps=40, augmentation={"dihedral": False, "colours": False})
    adaptation, steps = adapt_to(llama, TASK, other, settings=settings)
    assert adaptation.left_out == ()
    # The sequences of either task, of 32 and of 12 tokens, in every mixture of a batch of two.
    assert {step.tokens for step in steps} == {2 * 32, 32 + 12, 2 * 12}
    assert sum(losses(steps)[-5:]) < 0.5 * sum(losses(steps)[:5])


def test_a_task_that_does_not_fit_is_left_out_of_a_common_adapter(llama):
    large = [[1] * 30] * 30
    long, _ = parse_task({"train": [{"input": large, "output": large}] * 2, "test": [{"input": large}]})
    adaptation, steps = adapt_to(llama, long, TASK, settings=changed(max_seq_len=64))
    assert adaptation.left_out == (0,)
    assert losses(steps) == losses(adapt_to(llama, TASK, settings=changed(max_seq_len=64))[1])


def test_training_goes_on_from_an_initial_adapter(llama):
    first, _ = adapt_to(llama)
    once, _ = adapt_to(llama, settings=changed(max_steps=1, learning_rate=1e-9, lora_rank=2), initial=first.adapter)
    assert once.adapter.rank == 4, "its own, not the settings'"
    assert once.adapter.tensors.keys() == first.adapter.tensors.keys()
    for name, tensor in once.adapter.tensors.items():
        torch.testing.assert_close(tensor, first.adapter.tensors[name], rtol=0, atol=1e-8)
    (_, new), (_, further) = adapt_to(llama), adapt_to(llama, initial=first.adapter)
    assert further[0].tokens == new[0].tokens
    assert further[0].loss < new[0].loss


def test_a_low_loss_or_the_end_of_the_time_stops_the_training_and_keeps_the_adapter(llama):
    whole, steps = adapt_to(llama, settings=changed(max_steps=12))
    low, first_ten = adapt_to(llama, settings=changed(max_steps=12, stop_loss=100.0))
    late, first = adapt_to(llama, settings=changed(max_steps=12, time_budget_s=1e-6))
    assert [a.stopped_by for a in (whole, low, late)] == ["max_steps", "stop_loss", "time_budget"]
    assert [a.num_steps for a in (whole, low, late)] == [12, 10, 1]
    assert numbers(first_ten) == numbers(steps[:10])
    assert numbers(first) == numbers(steps[:1])
    assert all(tensor.isfinite().all() for tensor in late.adapter.tensors.values())
    assert any(tensor.any() for name, tensor in late.adapter.tensors.items() if "lora_B" in name), "its step was taken"


PLAIN_PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
jobs = torch.load(sys.argv[1])
for job in jobs:
    model = AutoModelForCausalLM.from_pretrained(job["base"], dtype=getattr(torch, job["precision"]))
    losses = []
    for with_adapter in (False, True):
        if with_adapter:
            model = PeftModel.from_pretrained(model, job["adapter"]).eval()
        with torch.no_grad():
            losses.append(model(job["ids"], attention_mask=job["mask"], labels=job["labels"]).loss.item())
    job["losses"] = losses
torch.save([job["losses"] for job in jobs], sys.argv[1])
"""


def as_transformers_has_it(examples):
    """Token ids padded with 0, the mask of what is no padding, and labels, of which -100 are none."""
    ids, is_target = (
        torch.nn.utils.rnn.pad_sequence([torch.tensor(values) for values in found], batch_first=True)
        for found in ([one.ids for one in examples], [one.is_target for one in examples])
    )
    lengths = torch.tensor([len(one) for one in examples]).unsqueeze(1)
    return {
        "ids": ids,
        "mask": (torch.arange(ids.shape[1]) < lengths).long(),
        "labels": ids.masked_fill(~is_target, -100),
    }


def test_every_loss_is_that_of_plain_peft_in_a_fresh_process(request, tmp_path):
    """Of the adapter that the steps before it left, on the batch of its step: what is trained is what is exported."""
    common = TASK, parse_task({**MIRROR, "train": [{"input": [[1, 1]], "output": [[2]]}] * 2})[0]
    jobs, expected = [], []
    for number, (name, precision) in enumerate(itertools.product(("tiny_base", "tiny_qwen2"), ("float32", "bfloat16"))):
        base = load_base(request.getfixturevalue(name), device="cpu", precision=precision)
        settings = {"lr_scheduler": "constant", "batch_size": 3, "learning_rate": 0.02}
        before, _ = adapt_to(base, *common, settings=changed(**settings, max_steps=5))
        with watched_passes() as passes:
            _, steps = adapt_to(base, *common, settings=changed(**settings, max_steps=6))
        ((trained, _),) = passes[-1]
        batch = {
            row: one for portion in trained._batch for row, one in zip(portion.rows, portion.examples, strict=True)
        }
        assert sum(map(len, batch.values())) == steps[-1].tokens
        before.adapter.save(tmp_path / str(number))
        examples = as_transformers_has_it(list(batch.values()))
        jobs.append(
            {"base": str(base.folder), "precision": precision, "adapter": str(tmp_path / str(number)), **examples}
        )
        expected.append(steps[-1].loss)
    torch.save(jobs, tmp_path / "jobs.pt")
    subprocess.run([sys.executable, "-c", PLAIN_PEFT, str(tmp_path / "jobs.pt")], check=True, capture_output=True)
    for job, found, loss in zip(jobs, torch.load(tmp_path / "jobs.pt"), expected, strict=True):
        without, with_adapter = found
        assert abs(without - loss) > 0.2, "the adapter does something"
        # On a bfloat16 base, PEFT computes its own layers in float32: at most a step of bfloat16 apart.
        assert loss == pytest.approx(with_adapter, rel={"float32": 1e-6, "bfloat16": 2**-8}[job["precision"]])


def test_the_adapter_folder_is_plain_lora_that_names_no_path(llama, tmp_path):
    adapter, _ = run(llama)
    adapter.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["r"] == adapter.rank == 4
    assert config["lora_alpha"] == 8
    assert config["peft_type"] == "LORA"
    assert config["base_model_name_or_path"] == "tiny-llama"
    assert config["target_modules"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert len(adapter.tensors) == 2 * 7 * 2  # A and B of seven layers in each of two blocks
    assert all(tensor.dtype == torch.float32 for tensor in adapter.tensors.values())


def test_the_same_adapter_is_saved_as_the_same_bytes(llama, tmp_path):
    for name in ("first", "second"):
        run(llama)[0].save(tmp_path / name)
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == Path(tmp_path / "second" / file.name).read_bytes()
