import pytest

from benchmarks.results import read, write

pytestmark = pytest.mark.fast


def test_what_is_written_is_read(tmp_path):
    document = {"date": "2026-01-01", "figures": {"num_tasks": 2}, "rows": [{"a": 1}, {"a": None}], "tasks": []}
    write(document, tmp_path / "results" / "one.json")
    assert read(tmp_path / "results" / "one.json") == document
    assert '\n{"a":1},\n' in (tmp_path / "results" / "one.json").read_text()


def test_what_was_not_measured_is_none(tmp_path):
    assert read(tmp_path / "none.json") is None
