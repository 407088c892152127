"""When two requests are the same one: for `Idempotency-Key`, and for the keys that our own commands send."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def digest(document: Mapping[str, Any]) -> str:
    """Of a request's canonical form: whitespace and the order of names make no difference, the order of `tasks` does.

    Tasks that share adapters in groups are grouped in their order.
    """
    tasks = document.get("tasks")
    ordered = {**document, "tasks": list(tasks.items())} if isinstance(tasks, Mapping) else document
    canonical = json.dumps(ordered, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
