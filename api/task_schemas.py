"""Tasks and grids, as documents have them."""

from typing import Annotated, Any, Final

from pydantic import StringConstraints, WithJsonSchema

EXAMPLE_TASK: Final = {
    "train": [
        {"input": [[1, 0], [0, 0]], "output": [[0, 1], [0, 0]]},
        {"input": [[0, 0], [3, 0]], "output": [[0, 0], [0, 3]]},
    ],
    "test": [{"input": [[0, 0], [7, 0]]}],
}
_GRID_SCHEMA: Final = {
    "type": "array",
    "minItems": 1,
    "maxItems": 30,
    "items": {"type": "array", "minItems": 1, "maxItems": 30, "items": {"type": "integer", "minimum": 0, "maximum": 9}},
}
_PAIR_SCHEMA: Final = {"input": _GRID_SCHEMA, "output": _GRID_SCHEMA}
_TASK_SCHEMA: Final = {
    "type": "object",
    "title": "Task",
    "description": "An ARC task. Test outputs, where given, are used for scoring only.",
    "required": ["train", "test"],
    "properties": {
        "train": {
            "type": "array",
            "items": {"type": "object", "required": ["input", "output"], "properties": _PAIR_SCHEMA},
        },
        "test": {"type": "array", "items": {"type": "object", "required": ["input"], "properties": _PAIR_SCHEMA}},
        "name": {"type": "string"},
    },
    "example": EXAMPLE_TASK,
}

TaskId = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_.-]+$", min_length=1, max_length=100)]
TaskDocument = Annotated[Any, WithJsonSchema(_TASK_SCHEMA)]
GridModel = Annotated[list[list[int]], WithJsonSchema({**_GRID_SCHEMA, "example": [[0, 0], [0, 7]]})]
