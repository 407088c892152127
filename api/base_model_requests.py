"""The body of POST /base-models, and what it may name: nothing that is a path on our machines."""

from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from api.documents import parse_document
from api.problems import Fault, invalid_request, pointer_to
from api.validation import faults_of
from jobs.claims import BaseModelSource

LOCAL_PREFIX: Final = "local:"
HUB_PREFIX: Final = "hub:"
_NAME: Final = "[A-Za-z0-9][A-Za-z0-9._-]*"
_NAMES: Final = rf"^{_NAME}(/{_NAME})*$"  # no segment is `..`: some become paths, a revision in the hub's cache for one

Source = Annotated[
    str, StringConstraints(pattern=rf"^((bundled|local):{_NAME}|(hub:)?{_NAME}/{_NAME})$", max_length=200)
]
Revision = Annotated[str, StringConstraints(pattern=_NAMES, max_length=200)]


class BaseModelRequest(BaseModel):
    """A base model, and its own adapter if it has one."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field(pattern=_NAMES, max_length=100, description="What jobs say in `settings.base_model`.")
    source: Source = Field(
        description="bundled:NAME, local:NAME (a folder that the operator provides), or a hub id OWNER/NAME."
    )
    revision: Revision | None = Field(default=None, description="Of a hub model.")
    adapter: Source | None = Field(
        default=None,
        description="The base model's own LoRA adapter, named like a source: merged into the base for new adapters, "
        "and what `start` continue goes on with.",
    )
    adapter_revision: Revision | None = Field(default=None, description="Of a hub adapter.")

    @model_validator(mode="after")
    def _revisions_are_of_the_hub(self) -> Self:
        if self.revision is not None and not _is_hub(self.source):
            raise ValueError("`revision` is for a source on a hub")
        if self.adapter_revision is not None and (self.adapter is None or not _is_hub(self.adapter)):
            raise ValueError("`adapter_revision` is for an adapter on a hub")
        return self

    def base(self) -> BaseModelSource:
        """Where it comes from, in words that a worker never takes for a path."""
        return BaseModelSource(
            _stored(self.source),
            self.revision,
            None if self.adapter is None else _stored(self.adapter),
            self.adapter_revision,
        )


def parse_base_model(body: bytes, *, has_local_models: bool) -> BaseModelRequest:
    """Checks the body of POST /base-models; raises `Problem` that names every fault."""
    document = parse_document(body)
    if not isinstance(document, dict):
        raise invalid_request([Fault("", "expected an object with `name` and `source`")])
    try:
        request = BaseModelRequest.model_validate(document)
    except ValidationError as error:
        raise invalid_request([Fault(pointer_to(*path), message) for path, message in faults_of(error)]) from error
    named: dict[str, Any] = {"source": request.source, "adapter": request.adapter}
    faults = [
        Fault(pointer_to(field), "this installation has no folder of local models (ARCADAPT_MODELS_DIR)")
        for field, source in named.items()
        if not has_local_models and source is not None and source.startswith(LOCAL_PREFIX)
    ]
    if faults:
        raise invalid_request(faults)
    return request


def _is_hub(source: str) -> bool:
    return "/" in source


def _stored(source: str) -> str:
    return f"{HUB_PREFIX}{source.removeprefix(HUB_PREFIX)}" if _is_hub(source) else source
