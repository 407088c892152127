import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.arcadapt.stack.up import Up


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for stacks. Not below pytest's own, which every other run of pytest makes private again: where tests run
    as root, PostgreSQL runs as another user and must get through."""
    with tempfile.TemporaryDirectory(prefix="arcadapt-up-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., Up]]:
    """Starts stacks, in a folder of the test's own or a given one, and stops what is left of them."""
    started: list[Up] = []

    def start(*arguments: str, folder: Path = place, environment: dict[str, str] | None = None) -> Up:
        started.append(Up(folder, *arguments, environment=environment))
        return started[-1]

    yield start
    for up in started:
        up.stop()
