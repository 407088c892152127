"""Records of the ways from request to submission, made up."""

from benchmarks.pipeline_summary import COLD, SCRIPTS, TOGETHER, TUNED, WARM

COUNTS = {"steps": 300, "train_tokens": 100_000, "completions": 32, "sampled_tokens": 1_500}
SCRIPT_STAGES = {"process": 30.0, "load": 4.0, "training": 100.0, "engine": 50.0, "generation": 5.0, "vote": 1.0}
SERVICE_STAGES = {"queue": 0.5, "training": 15.0, "answering": 3.0, "download": 0.5}


def record(seconds, *, stages, work=None, right=("a",), last_losses=None):
    """What is kept of one way."""
    return {
        "seconds": seconds,
        "stages": stages,
        "work": work or {},
        "counts": COUNTS,
        "last_losses": last_losses or {"a": 0.1, "b": 0.3},
        "right": list(right),
    }


def measured_round(*, scripts=200.0, tuned=160.0, together=100.0, cold=40.0, warm=20.0, right=("a",)):
    """Every way once, for two tasks."""
    work = {"adapt_s": 24.0, "sample_s": 6.0}
    return {
        SCRIPTS: record(scripts, stages={**SCRIPT_STAGES, "merge": 10.0}, right=right),
        TUNED: record(tuned, stages={"process": 4.0, "vote": 1.0}, work={**SCRIPT_STAGES, "merge": 10.0, "vote": 0.0}),
        TOGETHER: record(together, stages=SCRIPT_STAGES),
        COLD: record(cold, stages={"start": 20.0, **SERVICE_STAGES}, work=work),
        WARM: record(warm, stages={"start": 0.0, **SERVICE_STAGES}, work=work),
    }
