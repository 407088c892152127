import json
from datetime import UTC, datetime

import pytest

from benchmarks.growth_dashboard import DASHBOARDS, filled, queries

pytestmark = pytest.mark.fast

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


def fill(sql, **values):
    return filled(sql, start=START, end=END, interval_s=300, **values)


def test_macros_become_what_grafana_sends():
    assert fill("WHERE $__timeFilter(finished_at)") == (
        "WHERE finished_at BETWEEN '2026-01-01T00:00:00+00:00' AND '2026-01-02T00:00:00+00:00'"
    )
    grouped = fill("SELECT $__timeGroupAlias(finished_at, $__interval), 1")
    assert grouped == 'SELECT floor(extract(epoch from finished_at)/300)*300 AS "time", 1'


def test_the_chosen_job_is_a_string_and_none_is_an_empty_one():
    assert fill("= ${job:sqlstring}", job="abc") == "= 'abc'"
    assert fill("= ${job:sqlstring}") == "= ''"


@pytest.mark.parametrize("sql", ["$__unixEpochFilter(step)", "${worker:csv}", "$__timeFrom()"])
def test_what_is_not_known_is_refused(sql):
    with pytest.raises(ValueError, match="unknown"):
        fill(sql)


def test_every_query_of_every_dashboard_is_found_and_filled():
    texts = [file.read_text() for file in DASHBOARDS.glob("*.json")]
    found = [fill(sql) for _, sql in queries()]
    assert len(found) == sum(text.count('"rawSql"') + text.count('"query": "SELECT') for text in texts) > 0
    titles = {panel["title"] for text in texts for panel in json.loads(text)["panels"] if "targets" in panel}
    assert titles <= {name.rpartition(": ")[2] for name, _ in queries()}
