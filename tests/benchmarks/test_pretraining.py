import json

import pytest
import yaml

from benchmarks import pretraining
from benchmarks.pretraining import VARIANTS, varied
from benchmarks.pretraining_tables import PARTS
from tests.arc_engine.pretraining.tiny import tiny_recipe


@pytest.mark.fast
def test_every_variant_differs_from_the_base_in_what_it_names():
    base = varied("base", hours=0.5)
    assert base.hours == 0.5
    for name in set(VARIANTS) - {"base"}:
        recipe = varied(name, hours=0.5)
        differing = {field for field, value in recipe if value != getattr(base, field)} - {"name"}
        expected = {"stages" if field in {"arc_share", "batch_tokens"} else field for field in VARIANTS[name]}
        assert differing == expected, name
    assert {stage.arc_share for stage in varied("no ARC tasks", hours=0.5).stages} == {(0.0, 0.0)}
    assert {stage.batch_tokens for stage in varied("batches of 4,800", hours=0.5).stages} == {4800}


def test_variants_are_trained_once_and_written_as_they_come(tmp_path, monkeypatch):
    base = tmp_path / "base.yaml"
    fields = tiny_recipe(held_out={"tasks_per_family": 1, "max_side": 3, "arc_max_tokens": 300})
    base.write_text(yaml.safe_dump(fields.model_dump(mode="json", exclude={"max_steps"}) | {"hours": 1.0}))
    monkeypatch.setattr(pretraining, "BASE", base)
    out = tmp_path / "pretraining.json"

    def run(*variants, work="work"):
        words = ["--variants", *variants, "--hours", "0.0005", "--out", str(out), "--work", str(tmp_path / work)]
        monkeypatch.setattr("sys.argv", ["pretraining", *words])
        pretraining.main()
        return json.loads(out.read_text())

    first = run("base")
    second = run("base", "no ARC tasks", work="another machine's")
    assert second["rows"][0] == first["rows"][0]
    assert [row["variant"] for row in second["rows"]] == ["base", "no ARC tasks"]
    assert second["figures"]["num_variants"] == 2
    for row in second["rows"]:
        assert row["steps"] > 0
        assert 0 <= row["synthetic_exact"] <= 1
    monkeypatch.setitem(VARIANTS, "base", {"pool_sequences": 20})
    other = json.loads(out.read_text())
    assert not pretraining.known_rows(out, plan={**other["plan"], "hours": 1})
    assert list(pretraining.known_rows(out, plan=other["plan"])) == ["no ARC tasks"], "base is another one now"
    table = PARTS["pretraining"](second)
    assert "| no ARC tasks | 0.0" in table
    assert "0 minutes a variant" in PARTS["pretraining-conditions"](second)
