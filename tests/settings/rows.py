"""The table: what every setting changes. Whatever a row does not name must stay as it was, bit for bit."""

from typing import Final

from tests.settings.job_rows import COMMON, MODELS_AND_PROMPTS
from tests.settings.lora_rows import LORA
from tests.settings.row import Row
from tests.settings.sampling_rows import SAMPLING, SELECTION
from tests.settings.training_rows import EXAMPLES_AND_VIEWS, UPDATES

IDLE: Final = (
    Row("adaptation.warmup.steps", 7, set()),
    Row("adaptation.warmup.batch_size", 7, set()),
    Row("adaptation.group_size", 1, set()),
    Row("adaptation.warmup_ratio", 0.5, set(), given={"adaptation.lr_scheduler": "constant"}),
    Row("adaptation.max_grad_norm", 1000.0, set(), given={"adaptation.max_grad_norm": 100.0}),
    Row("adaptation.divergence_norm", 1e6, set()),
    Row("adaptation.batch_tokens", 100_000, set()),
    Row("adaptation.stop_loss", 1e-6, set()),
    Row("adaptation.time_budget_s", 3600.0, set()),
    Row("adaptation.max_seq_len", 80, set()),
    Row("adaptation.augmentation.keep_background", 1.0, set(), given={"adaptation.augmentation.colours": False}),
    Row("sampling.temperature", 2.0, set()),
    Row("sampling.top_p", 0.1, set()),
    Row("sampling.min_probability", 0.5, set()),
    Row("sampling.max_nodes", 1, set()),
    Row("sampling.time_budget_s", 3600.0, {"time_budget_s"}),
    Row("sampling.when_too_long", "fail", set()),
    Row("selection.num_scoring_views", 3, set()),
    Row("selection.num_scored", 2, set()),
)
"""Settings that have nothing to act on."""

ROWS: Final = (*MODELS_AND_PROMPTS, *COMMON, *LORA, *UPDATES, *EXAMPLES_AND_VIEWS, *SAMPLING, *SELECTION, *IDLE)
