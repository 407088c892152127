"""The engine's errors: one tree, stable codes, and they cross process borders."""

import pickle

import pytest

from arc_engine import errors

pytestmark = pytest.mark.fast

ERRORS: list[errors.EngineError] = [
    errors.InvalidTask("/train/0", "is wrong"),
    errors.InvalidTaskSource("no"),
    errors.ContaminatedDataset((("a", "b"),)),
    errors.InvalidEncoder("no"),
    errors.EncoderUnsupported("no"),
    errors.PromptUnsupported("no"),
    errors.LoraUnsupported("no"),
    errors.TaskTooLong("no"),
    errors.BaseModelError("no"),
    errors.BaseModelUnavailable("not now"),
    errors.PrecisionUnsupported("no"),
    errors.RunMismatch("no"),
    errors.CompilerMissing("no"),
    errors.UnevenShares("no"),
    errors.Diverged(3, float("inf"), 2.0),
    errors.OutOfMemory(4096, "no"),
    errors.AdaptationStopped("no"),
    errors.AdapterRefused("no"),
    errors.MethodUnsupported("no"),
    errors.SamplerFailed("no"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_survives_pickling(error: errors.EngineError):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_every_error_is_in_the_tree_with_a_code_of_its_own():
    classes = [type(error) for error in ERRORS]
    assert {kind for kind in vars(errors).values() if isinstance(kind, type)} - {errors.EngineError} == set(classes)
    assert len({kind.code for kind in classes}) == len(classes)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in classes)
