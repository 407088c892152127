"""Fixtures that several packages' tests share; each file of `tests/fixtures` registers its own."""

pytest_plugins = [
    "tests.fixtures.models",
    "tests.fixtures.properties",
    "tests.fixtures.servers",
    "tests.fixtures.stack",
]
