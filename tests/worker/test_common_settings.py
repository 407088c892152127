"""How an adapter that jobs have in common is trained."""

import pytest

from arc_engine.settings import AdaptationSettings
from worker.common_adaptation import common_settings

pytestmark = pytest.mark.fast

BOUNDS = {"batch_tokens": 512, "stop_loss": 0.1, "time_budget_s": 5.0}


def test_a_warm_up_has_its_own_length_and_no_bound_of_what_comes_after_it():
    settings = AdaptationSettings(start="warm", warmup={"steps": 7, "batch_size": 3}, lora_rank=4, **BOUNDS)
    common = common_settings(settings)
    assert (common.start, common.max_steps, common.batch_size, common.lora_rank) == ("new", 7, 3, 4)
    assert (common.batch_tokens, common.stop_loss, common.time_budget_s) == (None, None, None)


def test_tasks_that_share_an_adapter_share_its_settings():
    settings = AdaptationSettings(scope="shared", **BOUNDS)
    assert common_settings(settings) == settings
