"""The settings reference is what the models say today."""

from pathlib import Path

import pytest

from arc_engine.settings import SolveSettings
from arc_engine.settings_reference import paths, render, sections

pytestmark = pytest.mark.fast

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == render(), "run `make docs`"


def test_every_value_of_the_stored_settings_has_a_line():
    def leaves(tree, *place):
        for name, value in tree.items():
            if isinstance(value, dict):
                yield from leaves(value, *place, name)
            else:
                yield ".".join([*place, name])

    may_be_null = {"adaptation"}
    assert set(paths()) == {*leaves(SolveSettings().model_dump(mode="json")), *may_be_null}
    assert len(paths()) == len(set(paths()))


def test_a_line_tells_range_default_and_meaning():
    lines = {setting.path: setting for section in sections() for setting in section.settings}
    assert lines["adaptation.lora_rank"].values == "whole number, at least 1, at most 512"
    assert lines["adaptation.lora_dropout"].values == "number, at least 0, below 1"
    assert lines["adaptation.learning_rate"].values == "number, above 0, at most 1"
    assert lines["adaptation.lr_scheduler"].values == "`linear`, `cosine`, `constant`, `constant_with_warmup`"
    assert lines["adaptation.target_modules"].values == "`all-linear` or list of texts, not empty, at most 256"
    assert lines["sampling.max_new_tokens"].values == "whole number, at least 1, at most 32,768 or `null`"
    assert lines["adaptation"].values == "object or `null`"
    assert lines["prompt.version"].default == '`"compact"`'
    assert lines["prompt.grid_encoder"].values == "text or `null`"
    assert all(setting.description for setting in lines.values())
