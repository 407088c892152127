"""The queries of the Grafana dashboards, as Grafana sends them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

DASHBOARDS: Final = Path(__file__).parents[1] / "ops" / "grafana" / "dashboards"


@dataclass(frozen=True, slots=True)
class Window:
    """What a dashboard's time picker is set to."""

    name: str
    length: timedelta
    interval_s: int
    """How long a point of a panel is: Grafana makes as many as the panel has pixels, at round intervals."""


WINDOWS: Final = (
    Window("6 hours", timedelta(hours=6), 30),
    Window("7 days", timedelta(days=7), 900),
    Window("90 days", timedelta(days=90), 7200),
)


def queries(folder: Path = DASHBOARDS) -> Iterator[tuple[str, str]]:
    """Title and SQL of every panel and every variable of all dashboards."""
    for file in sorted(folder.glob("*.json")):
        dashboard: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        name = dashboard["title"]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{name}: variable {variable['name']}", variable["query"]
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                yield f"{name}: {panel['title']}", target["rawSql"]


def filled(sql: str, *, start: datetime, end: datetime, interval_s: int, job: str = "") -> str:
    """The query with the macros of Grafana's PostgreSQL data source and the variables filled in.

    Raises `ValueError` for one that this does not know.
    """
    between = rf"\1 BETWEEN '{start.isoformat()}' AND '{end.isoformat()}'"
    group = rf'floor(extract(epoch from \1)/{interval_s})*{interval_s} AS "time"'
    sql = re.sub(r"\$__timeFilter\((\w+)\)", between, sql)
    sql = re.sub(r"\$__timeGroupAlias\((\w+), \$__interval\)", group, sql)
    sql = sql.replace("${job:sqlstring}", f"'{job}'")
    if left := re.search(r"\$__\w+|\$\{[^}]*\}", sql):
        raise ValueError(f"unknown macro or variable: {left[0]}")
    return sql
