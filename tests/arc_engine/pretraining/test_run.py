"""The training loop on a tiny model: learns, repeats bit for bit, survives being killed, exports."""

import json
import operator
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from arc_engine.base_models.manifest import hash_folder
from arc_engine.errors import BaseModelError, RunMismatch, UnevenShares
from arc_engine.pretraining.batches import BatchStream
from arc_engine.pretraining.checkpoint import RunState, latest_checkpoint, read_state
from arc_engine.pretraining.corpus import Corpus
from arc_engine.pretraining.export import export
from arc_engine.pretraining.forward import Forward
from arc_engine.pretraining.model import batch_loss, build_model
from arc_engine.pretraining.muon import StackedMuon
from arc_engine.pretraining.optimiser import build_optimisers, learning_rate_factor
from arc_engine.pretraining.recipe import Optimisation, load_recipe
from arc_engine.pretraining.run import LOG_NAME, Pretraining, pretrain
from arc_engine.pretraining.tokenizer import build_tokenizer
from arc_engine.pretraining.validation import ARC_GROUP, HeldOutTask, validate
from arc_engine.training import processes
from tests.arc_engine.pretraining.tiny import tiny_recipe
from tests.arc_engine.torchrun import in_two_processes


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a complete run."""
    out_dir = tmp_path_factory.mktemp("run")
    pretrain(tiny_recipe(), out_dir=out_dir)
    return out_dir


def weights(out_dir: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(out_dir)
    assert checkpoint is not None
    assert read_state(checkpoint).step == 30
    return load_file(checkpoint / "model.safetensors")


def losses(out_dir: Path) -> list[tuple[int, float]]:
    records = map(json.loads, (out_dir / LOG_NAME).read_text().splitlines())
    return [(record["step"], record["loss"]) for record in records if record["kind"] == "step"]


def test_a_run_learns_and_says_so(finished: Path) -> None:
    logged = losses(finished)
    assert [step for step, _ in logged] == list(range(1, 31))
    assert sum(loss for _, loss in logged[-5:]) < sum(loss for _, loss in logged[:5])
    last = json.loads((finished / LOG_NAME).read_text().splitlines()[-1])
    assert last["kind"] == "validation"
    assert last["groups"]["copying"][1] == 1


def test_the_same_recipe_gives_the_same_bits(finished: Path, tmp_path: Path) -> None:
    pretrain(tiny_recipe(), out_dir=tmp_path)
    assert losses(tmp_path) == losses(finished)
    assert_equal(weights(tmp_path), weights(finished))


@pytest.mark.parametrize("killed_at", [4, 10, 17])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(finished: Path, tmp_path: Path, killed_at: int) -> None:
    def kill(state: RunState) -> None:
        if state.step == killed_at:
            raise KilledError

    with pytest.raises(KilledError):
        pretrain(tiny_recipe(), out_dir=tmp_path, on_step=kill)
    steps: list[int] = []
    pretrain(tiny_recipe(), out_dir=tmp_path, on_step=lambda state: steps.append(state.step))
    assert steps[0] == (killed_at - 1) // 10 * 10 + 1
    assert_equal(weights(tmp_path), weights(finished))
    assert losses(tmp_path) == losses(finished)


def test_a_finished_run_does_not_go_on(finished: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    pretrain(tiny_recipe(), out_dir=finished, on_step=lambda state: steps.append(state.step))
    assert steps == []


def test_a_run_of_another_recipe_is_refused_but_its_budget_may_change(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(RunMismatch, match="another recipe"):
        Pretraining(tiny_recipe(seed=4), out_dir=tmp_path / "run")
    held_out = {**tiny_recipe().held_out.model_dump(), "every_s": 1.0}
    longer = tiny_recipe(max_steps=31, checkpoint_every_steps=5, held_out=held_out)
    steps: list[int] = []
    pretrain(longer, out_dir=tmp_path / "run", on_step=lambda state: steps.append(state.step))
    assert steps == [31]


def test_time_after_the_last_step_counts_as_used(tmp_path: Path) -> None:
    recipe = tiny_recipe(max_steps=None, hours=1.0)
    run = Pretraining(recipe, out_dir=tmp_path)
    run.step(0.0)
    run._started -= 3600  # as after a long validation
    assert run.progress == 1.0
    run.checkpoint()
    assert Pretraining(recipe, out_dir=tmp_path).progress == 1.0


def test_only_whole_checkpoints_are_seen_and_two_are_kept(finished: Path) -> None:
    folder = finished / "checkpoints"
    (folder / ".partial-step-99999999").mkdir()
    assert sorted(path.name for path in folder.glob("step-*")) == ["step-00000020", "step-00000030"]
    newest = latest_checkpoint(finished)
    assert newest is not None
    assert newest.name == "step-00000030"


def test_muon_steps_are_orthogonal() -> None:
    torch.manual_seed(0)
    model = build_model(tiny_recipe(seed=1))
    optimisers = build_optimisers(model, Optimisation(muon_learning_rate=1.0))
    held = [p for optimiser in optimisers.values() for group in optimiser.param_groups for p in group["params"]]
    assert len(held) == len({id(p) for p in held}) == len(list(model.parameters()))
    matrix = model.model.layers[0].self_attn.q_proj.weight
    before = matrix.detach().clone()
    matrix.grad = torch.randn_like(matrix)
    optimisers["muon"].step()
    singular = torch.linalg.svdvals(matrix.detach() - before)
    # Five Newton-Schulz steps bring nearly all singular values near 1; a plain gradient's spread over 0..11 here.
    assert singular.max() < 1.3
    assert singular.median() > 0.6


def test_muon_of_stacked_matrices_is_that_of_torch() -> None:
    shapes = [(24, 24), (64, 24), (24, 64), (24, 24), (64, 24)]
    draws = torch.Generator().manual_seed(0)
    ours, theirs = [[torch.nn.Parameter(torch.full(shape, 0.5)) for shape in shapes] for _ in range(2)]
    stacked = StackedMuon(ours, lr=0.1, momentum=0.9)
    torchs = torch.optim.Muon(theirs, lr=0.1, momentum=0.9, weight_decay=0.0)
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=draws)
            other.grad = one.grad.clone()
        stacked.step()
        torchs.step()
    for one, other in zip(ours, theirs, strict=True):
        # Both orthogonalise in bfloat16, not always in the same order of additions.
        assert torch.linalg.norm(one - other) < 0.03 * torch.linalg.norm(one - 0.5)


def test_learning_rate_rises_stays_and_falls() -> None:
    settings = Optimisation(warmup_steps=10, decay_from=0.6)
    factors = [learning_rate_factor(settings, step=step, progress=step / 100) for step in range(101)]
    assert factors[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert set(factors[10:60]) == {1.0}
    assert factors[80] == pytest.approx(0.5)
    assert factors[100] == 0


def test_a_new_model_begins_as_the_recipe_says() -> None:
    usual, other = (
        build_model(tiny_recipe(beginning=beginning)).model.layers[0]
        for beginning in ({}, {"query_key_gain": 3.0, "zero_outputs": True})
    )
    for name in ("q_proj", "k_proj"):
        assert torch.equal(other.self_attn.get_submodule(name).weight, usual.self_attn.get_submodule(name).weight * 3)
    assert torch.equal(other.self_attn.v_proj.weight, usual.self_attn.v_proj.weight)
    assert usual.self_attn.o_proj.weight.any()
    assert not other.self_attn.o_proj.weight.any()
    assert not other.mlp.down_proj.weight.any()


def test_a_run_in_bfloat16_learns_in_float32_weights(tmp_path: Path) -> None:
    recipe = tiny_recipe(precision="bfloat16")
    run = Pretraining(recipe, out_dir=tmp_path)
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}
    pretrain(recipe, out_dir=tmp_path)
    logged = [loss for _, loss in losses(tmp_path)]
    assert sum(logged[-5:]) < sum(logged[:5])


def test_validation_agrees_with_greedy_decoding(finished: Path) -> None:
    recipe = tiny_recipe()
    tokenizer = build_tokenizer(model_max_length=512)
    corpus = Corpus(recipe, tokenizer)
    model = build_model(recipe)
    model.load_state_dict(weights(finished))
    pairs = corpus.held_out[0].pairs
    prompt = corpus.tokens_of(pairs)
    num_wanted = prompt.answers.count(max(prompt.answers))
    context, wanted = list(prompt.ids[:-num_wanted]), list(prompt.ids[-num_wanted:])
    ids = torch.tensor([context])
    for _ in wanted:
        ids = torch.cat([ids, model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
    greedy_is_right = ids[0, len(context) :].tolist() == wanted
    report = validate(model, [HeldOutTask(ARC_GROUP, "x", prompt)])
    assert report.groups == {ARC_GROUP: (int(greedy_is_right), 1)}


def test_export_is_a_plain_model_folder(finished: Path, tmp_path: Path) -> None:
    exported = export(tiny_recipe(), run_dir=finished, out_dir=tmp_path, notes="Measured on a Tuesday.")
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert model.dtype == torch.bfloat16
    for name, tensor in weights(finished).items():
        assert torch.equal(model.state_dict()[name], tensor.to(torch.bfloat16))
    assert tokenizer.decode(tokenizer.encode("I12\n34O")) == "I12\n34O"
    facts = json.loads((tmp_path / "training.json").read_text())
    assert facts["steps"] == 30
    assert facts["recipe"]["seed"] == 3
    card = (tmp_path / "README.md").read_text()
    assert "Measured on a Tuesday." in card
    assert "$" not in card
    assert f"30 steps, {facts['tokens']} tokens" in card
    assert exported.facts["parameters"] == model.num_parameters()


def test_a_run_goes_on_with_a_model_and_its_card_tells(finished: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    export(tiny_recipe(), run_dir=finished, out_dir=first)
    recipe = tiny_recipe(seed=4, max_steps=2, start_from=str(first))
    begun = build_model(recipe).state_dict()
    assert_equal(begun, {name: tensor.to(torch.bfloat16).float() for name, tensor in weights(finished).items()})
    pretrain(recipe, out_dir=tmp_path / "run")
    facts = export(recipe, run_dir=tmp_path / "run", out_dir=tmp_path / "second").facts
    [earlier] = facts["earlier_runs"]
    assert (earlier["name"], earlier["steps"], earlier["recipe"]["seed"]) == ("tiny", 30, 3)
    assert earlier["weights"] == hash_folder(first)["model.safetensors"]
    assert "earlier runs had learned: tiny (30 steps" in (tmp_path / "second/README.md").read_text()
    third = tiny_recipe(seed=5, max_steps=1, start_from=str(tmp_path / "second"), held_out={"families": ["flip"]})
    pretrain(third, out_dir=tmp_path / "third")
    facts = export(third, run_dir=tmp_path / "third", out_dir=tmp_path / "out").facts
    assert [run["steps"] for run in facts["earlier_runs"]] == [30, 2]
    assert "flip" in facts["trained_families"], "what an earlier run was trained on is not unseen"


def test_a_model_of_another_shape_or_encoder_is_not_gone_on_with(finished: Path, tmp_path: Path) -> None:
    export(tiny_recipe(), run_dir=finished, out_dir=tmp_path)
    shape = {**tiny_recipe().model.model_dump(), "num_heads": 4}
    with pytest.raises(BaseModelError, match="num_attention_heads"):
        build_model(tiny_recipe(start_from=str(tmp_path), model=shape))
    with pytest.raises(BaseModelError, match="vocab_size"):
        build_model(tiny_recipe(start_from=str(tmp_path), grid_encoder="CoordinateEncoder()"))
    other = build_tokenizer(model_max_length=512)
    other.add_tokens(["more"])
    other.save_pretrained(tmp_path)
    with pytest.raises(BaseModelError, match="other tokens"):
        build_model(tiny_recipe(start_from=str(tmp_path)))


def test_what_is_gone_on_with_may_lie_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tiny_recipe(start_from="model").model_dump(mode="json")))
    assert load_recipe(tmp_path / "recipe.yaml").start_from == str(tmp_path / "model")
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump(tiny_recipe(start_from="bundled:arc-mini").model_dump(mode="json"))
    )
    assert load_recipe(tmp_path / "recipe.yaml").start_from == "bundled:arc-mini"


def test_there_is_nothing_to_export_before_the_first_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError):
        export(tiny_recipe(), run_dir=tmp_path / "empty", out_dir=tmp_path / "out")


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def test_batches_of_a_step_count_by_their_targets(tmp_path: Path) -> None:
    recipe = tiny_recipe(gradient_accumulation=3, max_steps=1)
    run = Pretraining(recipe, out_dir=tmp_path / "run")
    stream = BatchStream(run.corpus, recipe)
    batches = [stream.next_batch(0.0) for _ in range(3)]
    losses_apart = [batch_loss(run.model, batch, forward=Forward()).item() for batch in batches]
    sizes = [batch.num_targets for batch in batches]
    run.step(0.0)
    assert len(set(sizes)) > 1
    [(_, loss)] = losses(tmp_path / "run")
    assert loss == pytest.approx(sum(map(operator.mul, losses_apart, sizes)) / sum(sizes), abs=1e-4)
    assert run.state.tokens == sum(batch.num_tokens for batch in batches)


def test_two_processes_share_a_step_and_come_to_the_same(tmp_path: Path) -> None:
    recipe = tiny_recipe(gradient_accumulation=2, max_steps=6, checkpoint_every_steps=3)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    in_two_processes("pretrain", config=tmp_path / "recipe.yaml", out=tmp_path / "two")
    pretrain(recipe, out_dir=tmp_path / "one")
    assert dict(losses(tmp_path / "two")) == pytest.approx(dict(losses(tmp_path / "one")), abs=2e-4)
    one, two = (load_file(tmp_path / name / "checkpoints/step-00000006/model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        # Muon computes in bfloat16.
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=5e-4)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "two" / "model")


def test_processes_that_would_be_idle_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    with pytest.raises(UnevenShares, match="a multiple of 2"):
        Pretraining(tiny_recipe(gradient_accumulation=3), out_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_processes_that_see_different_checkpoints_do_not_go_on(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    for theirs in (None, "step-00000020"):  # what another process would have found in a folder of its own
        monkeypatch.setattr(processes, "gather_object", lambda mine, theirs=theirs: [*mine, theirs])
        with pytest.raises(RunMismatch, match="see different checkpoints"):
            Pretraining(tiny_recipe(), out_dir=tmp_path / "run")
    monkeypatch.setattr(processes, "gather_object", lambda mine: mine * 2)
    assert Pretraining(tiny_recipe(), out_dir=tmp_path / "run").progress == 1
