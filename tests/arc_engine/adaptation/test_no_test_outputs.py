"""Structural: nothing that adapts can hold, receive or look up a test output."""

import ast
import dataclasses
import typing
from pathlib import Path

import pytest

import arc_engine.adaptation
from arc_engine.adaptation.examples import ExampleSource, draw_example
from arc_engine.tasks import Grid, Pair, Task

pytestmark = pytest.mark.fast

MODULES = sorted(Path(arc_engine.adaptation.__file__).parent.glob("*.py"))


def test_the_type_that_reaches_training_has_no_place_for_test_outputs():
    fields = {field.name: field.type for field in dataclasses.fields(Task)}
    assert fields == {"train": tuple[Pair, ...], "test": tuple[Grid, ...]}
    assert "__dict__" not in dir(Task), "slots: nothing can be attached to a task either"


def test_examples_are_made_of_a_task_and_of_nothing_that_knows_solutions():
    for function in (draw_example, ExampleSource.__init__):
        hints = typing.get_type_hints(function)
        assert hints["task"] is Task


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_the_adaptation_package_does_not_know_the_type_that_holds_test_outputs(module):
    tree = ast.parse(module.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not (imported | names | attributes) & {"Solution", "parse_task", "test"}
