"""What makes two requests the same one."""

import json

import pytest

from api.digests import digest
from api.requests import parse_submission
from tests.fixtures.records import TASK_JSON

pytestmark = pytest.mark.fast

SETTINGS = {"adaptation": {"scope": "groups", "group_size": 1}, "base_model": "tiny"}


def test_the_order_of_names_makes_no_difference():
    settings = dict(reversed(SETTINGS.items()))
    assert digest({"settings": SETTINGS, "name": "x"}) == digest({"name": "x", "settings": settings})
    assert digest({"task": TASK_JSON}) == digest({"task": dict(reversed(TASK_JSON.items()))})
    assert digest({"settings": SETTINGS}) != digest({"settings": {**SETTINGS, "base_model": "other"}})


def test_the_order_of_tasks_does():
    first, second = {"a": TASK_JSON, "b": TASK_JSON}, {"b": TASK_JSON, "a": TASK_JSON}
    assert digest({"tasks": first}) != digest({"tasks": second})
    bodies = [json.dumps({"tasks": tasks, "settings": SETTINGS}).encode() for tasks in (first, second)]
    submissions = [parse_submission(body, max_tasks=10) for body in bodies]
    assert [list(submission.tasks) for submission in submissions] == [["a", "b"], ["b", "a"]]
    assert submissions[0].sha256 != submissions[1].sha256
