"""How long reads take when the tables are long: the routes, through the API itself, and the dashboards' queries."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, event

CALLS: Final = 30
WARM_UP_CALLS: Final = 3
LIMIT_MS: Final = 50.0


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that was executed, and how long the answer took, all its rows included."""

    sql: str
    parameters: Any
    ms: float


class StatementLog:
    """The statements that an engine executes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.statements: list[Statement] = []

    @contextmanager
    def listening(self) -> Iterator["StatementLog"]:
        """Notes them while the block runs."""
        event.listen(self._engine, "before_cursor_execute", self._begin)
        event.listen(self._engine, "after_cursor_execute", self._end)
        try:
            yield self
        finally:
            event.remove(self._engine, "before_cursor_execute", self._begin)
            event.remove(self._engine, "after_cursor_execute", self._end)

    def _begin(self, connection: Connection, *_: object) -> None:
        connection.info["started"] = time.perf_counter()

    def _end(self, connection: Connection, _: object, sql: str, parameters: object, *__: object) -> None:
        ms = 1000 * (time.perf_counter() - connection.info["started"])
        self.statements.append(Statement(sql, parameters, ms))


def time_calls(calls: Iterable[Callable[[], object]]) -> list[float]:
    """Milliseconds of each call; the first few are not counted."""
    times: list[float] = []
    for call in calls:
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    return times[WARM_UP_CALLS:]


def slowest_statements(calls: Iterable[Callable[[], object]], engine: Engine) -> tuple[list[Statement], int]:
    """The slowest statement of each call, the first few of which are not counted, and how many the last one made."""
    slowest: list[Statement] = []
    with StatementLog(engine).listening() as log:
        for call in calls:
            log.statements.clear()
            call()
            slowest.append(max(log.statements, key=lambda statement: statement.ms))
    return slowest[WARM_UP_CALLS:], len(log.statements)


def row_of(what: str, times: Sequence[float], slowest: Sequence[Statement], *, num_statements: int) -> dict[str, Any]:
    """Medians and 95th percentiles, in milliseconds."""
    row = {
        "what": what,
        "calls": len(times),
        **_summary("ms", times),
        **_summary("sql_ms", [statement.ms for statement in slowest]),
        "statements": num_statements,
    }
    print(f"{row['ms_p95']:8.1f} ms, SQL {row['sql_ms_p95']:8.1f} ms: {what}", flush=True)
    return row


def explain_slow(slowest: Sequence[Statement], engine: Engine) -> None:
    """Prints the plan of the slowest one where it is over the limit."""
    worst = max(slowest, key=lambda statement: statement.ms)
    if worst.ms > LIMIT_MS:
        with engine.connect() as connection:
            explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS) {worst.sql}", worst.parameters)
            print("\n".join(explained.scalars()))


def _summary(name: str, values: Sequence[float]) -> dict[str, float]:
    percentiles = statistics.quantiles(values, n=20, method="inclusive")
    return {f"{name}_median": round(statistics.median(values), 2), f"{name}_p95": round(percentiles[-1], 2)}
