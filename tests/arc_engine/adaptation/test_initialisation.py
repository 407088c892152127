"""Every way to start LoRA matrices: the same as PEFT's own, except that the base stays what it is."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from arc_engine.adaptation.initialisation import FROZEN, TRAINED, get_matrices
from arc_engine.adaptation.lora import export, lora_layers
from arc_engine.base_models.loading import load_base
from arc_engine.errors import LoraUnsupported
from arc_engine.sampling.acceptance import check_adapter
from arc_engine.sampling.protocol import AdapterFolder
from tests.arc_engine.adaptation.lora_training import (
    INITS,
    SHIFTING,
    fingerprint,
    global_randomness,
    logits,
    logits_in_plain_peft,
    settings_with,
    stir_global_randomness,
    train,
    trained,
    weights_hash,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, device="cpu")


def losses_of_peft(folder, *, init, use_rslora=False):
    """The same training with PEFT's own layers, on a base of its own, which PEFT may change."""
    model = load_base(folder, device="cpu").model
    torch.manual_seed(7)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=8,
        use_rslora=use_rslora,
        target_modules="all-linear",
        init_lora_weights=True if init == "default" else init,
    )
    get_peft_model(model, config)
    return train(model)


@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("init", ["default", "gaussian", "orthogonal"])
def test_losses_are_those_of_peft_bit_for_bit(base, init, use_rslora):
    _, losses, _ = trained(base, settings_with(init=init, use_rslora=use_rslora))
    assert losses == losses_of_peft(base.folder, init=init, use_rslora=use_rslora)


@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("init", SHIFTING)
def test_losses_are_those_of_peft_that_changes_the_base(base, init, use_rslora):
    # One function, computed in another order: 1e-6 of the first loss, and what AdamW makes of that in six steps.
    _, losses, _ = trained(base, settings_with(init=init, use_rslora=use_rslora))
    expected = losses_of_peft(base.folder, init=init, use_rslora=use_rslora)
    assert losses[0] == pytest.approx(expected[0], rel=1e-6)
    assert losses == pytest.approx(expected, rel=2e-4)
    assert losses_of_peft(base.folder, init="default", use_rslora=use_rslora) != pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("init", INITS)
def test_training_starts_at_the_base_model(base, init):
    before = logits(base.model)
    with lora_layers(base, settings=settings_with(init=init)) as peft_model:
        torch.testing.assert_close(logits(base.model), before, rtol=1e-4, atol=1e-4)
        matrices = get_matrices(peft_model, TRAINED)
        assert all(pair.lora_a.abs().max() > 0 for pair in matrices.values())
        if init not in {"default", "gaussian"}:
            assert all(pair.lora_b.abs().max() > 0 for pair in matrices.values())


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("init", INITS)
def test_base_and_global_randomness_are_as_before_and_the_weights_also_meanwhile(base, init, fails):
    stir_global_randomness()
    before, weights, randomness = fingerprint(base), weights_hash(base), global_randomness()
    outcome = pytest.raises(KeyboardInterrupt) if fails else contextlib.nullcontext()
    with outcome, lora_layers(base, settings=settings_with(init=init)):
        assert weights_hash(base) == weights
        train(base.model, num_steps=2)
        assert weights_hash(base) == weights
        if fails:
            raise KeyboardInterrupt
    assert fingerprint(base) == before
    assert global_randomness() == randomness


def test_after_every_init_a_default_run_is_that_of_a_fresh_process(base):
    for init in INITS:
        trained(base, settings_with(init=init))
    script = """
import json, sys
from pathlib import Path
import torch
from arc_engine.base_models.loading import load_base
from tests.arc_engine.adaptation.lora_training import settings_with, trained
torch.set_num_threads(int(sys.argv[2]))
_, losses, _ = trained(load_base(Path(sys.argv[1]), device="cpu"), settings_with())
print(json.dumps([loss.hex() for loss in losses]))
"""
    arguments = [sys.executable, "-c", script, str(base.folder), str(torch.get_num_threads())]
    child = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    _, losses, _ = trained(base, settings_with())
    assert json.loads(child.stdout) == [loss.hex() for loss in losses]


@pytest.mark.parametrize("init", INITS)
def test_a_seed_repeats_and_another_does_not(base, init):
    first, again, other = (trained(base, settings_with(init=init, seed=seed))[1] for seed in (7, 7, 8))
    assert first == again
    drawn = init not in {"pissa", "olora"}  # what is taken out of the weights is the same for every seed
    assert (first != other) == drawn


@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("init", INITS)
def test_the_export_is_plain_lora_on_the_unchanged_base(base, tmp_path, init, use_rslora):
    adapter, _, at_the_end = trained(base, settings_with(init=init, use_rslora=use_rslora))
    adapter.save(tmp_path)
    found = logits_in_plain_peft(base.folder, tmp_path)
    torch.testing.assert_close(found, at_the_end, rtol=1e-4, atol=1e-4)
    assert (found - logits(base.model)).abs().max() > 0.1, "the adapter does something"
    assert adapter.rank == (8 if init in SHIFTING else 4)
    check_adapter(AdapterFolder(name="adapter", path=tmp_path, rank=adapter.rank), base=base.folder)
    assert adapter.config["init_lora_weights"] is True
    assert adapter.config["use_rslora"] is use_rslora


@pytest.mark.parametrize("init", SHIFTING)
def test_an_untrained_export_changes_nothing(base, tmp_path, init):
    with lora_layers(base, settings=settings_with(init=init)) as peft_model:
        export(peft_model, base_name="tiny").save(tmp_path)
    torch.testing.assert_close(logits_in_plain_peft(base.folder, tmp_path), logits(base.model), rtol=1e-4, atol=1e-4)


def test_only_the_trained_matrices_are_trained_and_only_they_have_dropout(base):
    with lora_layers(base, settings=settings_with(init="pissa", lora_dropout=0.25)) as peft_model:
        start = {name: pair.lora_b.clone() for name, pair in get_matrices(peft_model, FROZEN).items()}
        train(base.model, num_steps=2)
        frozen, moved = get_matrices(peft_model, FROZEN), get_matrices(peft_model, TRAINED)
        assert all(torch.equal(frozen[name].lora_b, start[name]) for name in start)
        assert all(not torch.equal(moved[name].lora_b, -start[name]) for name in start)
        layer = base.model.model.layers[0].self_attn.q_proj
        assert layer.lora_dropout[TRAINED].p == 0.25
        assert isinstance(layer.lora_dropout[FROZEN], torch.nn.Identity)


@pytest.mark.parametrize("init", SHIFTING)
def test_a_rank_above_what_the_weights_have_is_refused(base, init):
    before = fingerprint(base)
    # k and v have 32 outputs, every other layer of the tiny model 64 or more.
    with (
        pytest.raises(LoraUnsupported, match=rf"init {init} takes a lora_rank of at most 32 in .*k_proj .*64 to 32"),
        lora_layers(base, settings=settings_with(init=init, lora_rank=33)),
    ):
        pass
    assert fingerprint(base) == before
    with lora_layers(base, settings=settings_with(init=init, lora_rank=32)):
        pass
    with lora_layers(base, settings=settings_with(init=init, lora_rank=64, target_modules=["q_proj", "o_proj"])):
        pass


@pytest.mark.parametrize("init", ["default", "gaussian", "orthogonal"])
def test_other_inits_take_any_rank(base, init):
    adapter, losses, _ = trained(base, settings_with(init=init, lora_rank=512))
    assert adapter.rank == 512
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("init", ["orthogonal", "pissa", "olora"])
def test_matrices_for_a_bfloat16_base_are_not_rounded(tiny_base, init):
    base = load_base(tiny_base, device="cpu", precision="bfloat16")
    with lora_layers(base, settings=settings_with(init=init)) as peft_model:
        for pair in get_matrices(peft_model, TRAINED).values():
            assert pair.lora_a.dtype == pair.lora_b.dtype == torch.float32
            assert not torch.equal(pair.lora_a, pair.lora_a.bfloat16().float())


@pytest.mark.parametrize("init", INITS)
def test_a_4_bit_base_can_start_from_each_of_them(tiny_base, init):
    base = load_base(tiny_base, device="cpu", precision="nf4")
    before, plain = fingerprint(base), logits(base.model)
    adapter, losses, at_the_end = trained(base, settings_with(init=init))
    assert losses[-1] < losses[0]
    assert fingerprint(base) == before
    assert torch.equal(logits(base.model), plain)
    with lora_layers(base, settings=settings_with(), initial=adapter):
        torch.testing.assert_close(logits(base.model), at_the_end, rtol=1e-4, atol=1e-4)
