"""docs/benchmarks.md is what the committed results say."""

from pathlib import Path

import pytest

from benchmarks.results import SAMPLING
from benchmarks.tables import BENCHMARKS, PART, committed, written
from tests.benchmarks.records import task
from tests.benchmarks.test_sampling_tables import made_up_sampling

pytestmark = pytest.mark.fast

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def test_the_page_is_current():
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, committed()) == page, "run `make docs`"


def test_every_part_of_a_benchmark_is_on_the_page():
    on_page = [part["name"] for part in PART.finditer(PAGE.read_text(encoding="utf-8"))]
    assert sorted(on_page) == sorted(name for parts in BENCHMARKS.values() for name in parts)


def test_what_is_measured_replaces_what_was_there():
    page = PAGE.read_text(encoding="utf-8")
    once = written(page, {SAMPLING: made_up_sampling([task()])})
    assert "Abacus, 2 cores, 8 GiB; 2 tasks at a time" in once
    assert written(once, {SAMPLING: made_up_sampling([task()])}) == once
    assert written(once, {}) == written(page, {})


def test_what_is_not_measured_says_so():
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, {}).count("Not measured yet.") == len(list(PART.finditer(page)))


def test_a_page_with_a_part_that_nobody_writes_is_refused():
    page = "<!-- speed: written by python -m benchmarks.tables -->\n<!-- end of speed -->\n"
    with pytest.raises(KeyError):
        written(page, {SAMPLING: made_up_sampling([task()])})
