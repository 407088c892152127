import sys

import pytest

from benchmarks import adapting
from benchmarks.adapting_models import SHAPES
from benchmarks.results import read

MODEL = "smollm2-135m"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command on that shape with one narrow layer."""
    kind, shape = SHAPES[MODEL]
    narrow = {"hidden_size": 36, "intermediate_size": 64, "num_hidden_layers": 1}
    monkeypatch.setitem(SHAPES, MODEL, (kind, {**shape, **narrow}))

    def run(*arguments):
        out = tmp_path / "adapt.json"
        fixed = ["--models", MODEL, "--device", "cpu", "--work", str(tmp_path / "work"), "--out", str(out)]
        monkeypatch.setattr(sys, "argv", ["adapting", *fixed, "--rounds", "1", "--steps", "2", *arguments])
        adapting.main()
        return read(out)

    return run


def test_what_is_measured_is_written_and_not_measured_again(run, monkeypatch):
    first = run("--data", "256", "--packs", "1")
    assert [cell["data"] for cell in first["cells"]] == ["256"]
    assert [row["kind"] for row in first["rows"]] == ["trainer", "loop", "ours"]
    monkeypatch.setattr(adapting, "measure_cell", None)
    again = run("--data", "256", "--packs", "1")
    assert (again["cells"], again["rows"]) == (first["cells"], first["rows"])


def test_cells_are_added_to_those_of_the_same_machine(run):
    run("--data", "256", "--packs", "1")
    both = run("--data", "512", "--packs", "1")
    assert [cell["data"] for cell in both["cells"]] == ["256", "512"]
    assert len(both["commands"]) == 2
    another = run("--data", "256", "--packs", "2")
    assert [cell["data"] for cell in another["cells"]] == ["512", "256"]
    assert [row["pack"] for row in another["rows"] if row["data"] == "256"] == [1, 1, 2]


def test_results_of_another_machine_are_replaced(run, monkeypatch):
    run("--data", "256", "--packs", "1")
    monkeypatch.setattr(adapting, "machine", lambda: {"cpu": "Abacus"})
    elsewhere = run("--data", "512", "--packs", "1")
    assert [cell["data"] for cell in elsewhere["cells"]] == ["512"]
    assert len(elsewhere["commands"]) == 1
