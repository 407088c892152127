"""Errors cross process borders and carry codes that clients may rely on."""

import pickle
from uuid import UUID

import pytest

from jobs import errors

pytestmark = pytest.mark.fast

JOB = UUID(int=1)
EXAMPLES = [
    errors.ConfigurationError(("a", "b")),
    errors.NotFound("batch", JOB),
    errors.UnknownBaseModel("nobody"),
    errors.NoAdapter(JOB),
    errors.ArtifactMissing("adapters/x"),
    errors.InvalidTransition(JOB, "queued", "succeeded"),
    errors.StaleClaim(JOB, 2),
    errors.StaleCommonClaim(JOB, 0, 2),
    errors.IdempotencyConflict("k"),
    errors.SettingsConflict((("/settings/adaptation/start", "no adapter"),)),
    errors.CommonAdaptationFailed("diverged", "Diverged: step 3"),
    errors.InvalidCursor("not a cursor"),
    errors.InvalidAdapterZip("not a zip"),
    errors.BrokerUnavailable("down"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: error.code)
def test_survives_pickling(error: errors.JobsError):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_every_error_has_a_code_of_its_own_and_is_in_the_tree_above():
    classes = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.JobsError)
    ]
    assert len({error.code for error in classes}) == len(classes)
    assert {type(error) for error in EXAMPLES} == set(classes) - {errors.JobsError}
    assert all(error.__name__ in (errors.__doc__ or "") for error in classes if error is not errors.JobsError)
