from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcadapt.errors import InvalidOverride
from arcadapt.overrides import read_settings

pytestmark = pytest.mark.fast


def test_nothing_given_is_nothing():
    assert read_settings(None) == {}


@pytest.mark.parametrize(
    ("assignment", "settings"),
    [
        ("adaptation.max_steps=50", {"adaptation": {"max_steps": 50}}),
        ("adaptation.learning_rate=1e-4", {"adaptation": {"learning_rate": 1e-4}}),
        ("adaptation=null", {"adaptation": None}),
        ("base_model=arc-mini", {"base_model": "arc-mini"}),
        ("adaptation.augmentation.colours=false", {"adaptation": {"augmentation": {"colours": False}}}),
        ("prompt.grid_encoder=RepeatNumberEncoder(n=2)", {"prompt": {"grid_encoder": "RepeatNumberEncoder(n=2)"}}),
        (' sampling.method = "greedy" ', {"sampling": {"method": "greedy"}}),
        ("base_model=", {"base_model": ""}),
    ],
)
def test_an_assignment(assignment: str, settings: dict[str, object]):
    assert read_settings(None, assignments=[assignment]) == settings


@pytest.mark.parametrize("assignment", ["max_steps", "=5", "adaptation.=5", "a..b=5", ""])
def test_what_is_no_assignment_is_named(assignment: str):
    with pytest.raises(InvalidOverride, match="expected NAME=VALUE"):
        read_settings(None, assignments=[assignment])


def test_an_assignment_below_a_value_is_refused():
    with pytest.raises(InvalidOverride, match="adaptation is None and has no fields"):
        read_settings(None, assignments=["adaptation=null", "adaptation.max_steps=5"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.json", '{"adaptation": {"learning_rate": 1e-4, "max_steps": 9}}'),
        ("s.yaml", "adaptation:\n  learning_rate: 1e-4\n  max_steps: 9\n"),
    ],
)
def test_a_file_and_assignments_on_top(tmp_path: Path, name: str, text: str):
    path = tmp_path / name
    path.write_text(text)
    settings = read_settings(path, assignments=["adaptation.max_steps=50"])
    assert settings == {"adaptation": {"learning_rate": 1e-4, "max_steps": 50}}


def test_an_empty_file_is_no_settings(tmp_path: Path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert read_settings(path) == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", "{"), ("b.yaml", "a: [1"), ("c.yaml", "- 1"), ("d.yaml", "!!python/object:os.system {}")],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, text: str):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InvalidOverride, match=name):
        read_settings(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InvalidOverride, match=r"nowhere\.json: No such file"):
        read_settings(tmp_path / "nowhere.json")


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), st.one_of(st.integers(), st.booleans(), st.none()))
def test_assignments_reach_their_place(keys: list[str], value: object):
    place: object = read_settings(None, assignments=[f"{'.'.join(keys)}={str(value).lower().replace('none', 'null')}"])
    for key in keys:
        assert isinstance(place, dict)
        place = place[key]
    assert place == value
