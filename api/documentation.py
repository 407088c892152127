"""The OpenAPI document: what FastAPI cannot see for itself."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.base_model_requests import BaseModelRequest
from api.experiment_schemas import ExperimentRequest
from api.problems import MEDIA_TYPE, ProblemModel
from api.schemas import SolveRequest
from api.task_schemas import EXAMPLE_TASK

DESCRIPTION: Final = """
Adapts a language model to one ARC-AGI task at a time, and answers the task.

POST tasks to `/solve`, poll `/jobs/{id}` or `/batches/{id}` until the status is terminal (`succeeded`, `failed`,
`cancelled`), then fetch results, losses, candidates and the adapter.

Errors are `application/problem+json` (RFC 9457) with a stable `code`; `errors` names each place in the body.
"""

_REF: Final = "#/components/schemas/"

SOLVE_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": f"{_REF}{SolveRequest.__name__}"},
            "examples": {
                "one": {
                    "summary": "One task, default settings",
                    "value": {"task": EXAMPLE_TASK, "task_id": "move-right"},
                },
                "many": {
                    "summary": "Tasks by name, settings, a name for the batch",
                    "value": {
                        "tasks": {"move-right": EXAMPLE_TASK},
                        "settings": {
                            "base_model": "arc-mini",
                            "adaptation": {"lora_rank": 16, "max_steps": 100, "learning_rate": 1e-3},
                            "sampling": {"num_views": 8},
                        },
                        "name": "first try",
                    },
                },
                "baseline": {
                    "summary": "Without adaptation",
                    "value": {"task": EXAMPLE_TASK, "settings": {"adaptation": None}},
                },
            },
        }
    },
}
"""The route reads the bytes itself, to locate every fault; this is what it would have declared."""

BASE_MODEL_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": f"{_REF}{BaseModelRequest.__name__}"},
            "examples": {
                "tuned": {
                    "summary": "A model of a hub with an adapter that the operator provides",
                    "value": {"name": "tuned", "source": "Qwen/Qwen2.5-0.5B-Instruct", "adapter": "local:arc-lora"},
                },
            },
        }
    },
}

EXPERIMENT_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": f"{_REF}{ExperimentRequest.__name__}"},
            "examples": {
                "grid": {
                    "summary": "Two ranks at two learning rates, three seeds",
                    "value": {
                        "name": "ranks",
                        "tasks": {"move-right": EXAMPLE_TASK},
                        "settings": {"adaptation": {"max_steps": 100}},
                        "grid": {"adaptation.lora_rank": [1, 8], "adaptation.learning_rate": [5e-4, 2e-3]},
                        "seeds": [0, 1, 2],
                    },
                },
                "families": {
                    "summary": "Without adaptation, and with inits that vary",
                    "value": {
                        "name": "inits",
                        "tasks": {"move-right": EXAMPLE_TASK},
                        "cells": [
                            {"name": "none", "set": {"adaptation": None}},
                            {"name": "new", "grid": {"adaptation.init": ["default", "pissa"]}},
                        ],
                    },
                },
            },
        }
    },
}


def document(app: FastAPI) -> None:
    """Gives `app` its OpenAPI document, made when it is first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _openapi(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _openapi(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = schema["components"]["schemas"]
    for model in (SolveRequest, ExperimentRequest, BaseModelRequest, ProblemModel):
        own = model.model_json_schema(ref_template=_REF + "{model}")
        components.update(own.pop("$defs", {}))
        components[model.__name__] = own
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    problem = {
        "description": "Anything else, as a problem document",
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"{_REF}{ProblemModel.__name__}"}}},
    }
    for operations in schema["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = problem
    return schema
