"""What the database itself works out about a job, so that it can be looked up.

Text of JSON is canonical in PostgreSQL: equal values have equal text.
"""

from typing import Final

_WEIGHTS: Final = """
    coalesce((settings -> 'base_model')::text, '') || ' ' || coalesce((versions -> 'base_model')::text, '') || ' ' ||
    (coalesce(settings #>> '{adaptation,start}', 'new') = 'continue')::text
"""
_BACKEND: Final = "coalesce(settings #>> '{sampling,backend}', 'auto')"
_DEPTH_FIRST: Final = "coalesce(settings #>> '{sampling,method}', '') = 'dfs'"

TRAINED_WITH: Final = f"""
    CASE WHEN group_index IS NULL AND settings ->> 'adaptation' IS NOT NULL THEN md5(
        {_WEIGHTS} || ' ' || coalesce(settings #>> '{{adaptation,precision}}', '') || ' ' ||
        coalesce(settings #>> '{{adaptation,gradient_checkpointing}}', '')
    ) ELSE NULL END
"""
"""Equal for jobs that one trainer can adapt together: the model in memory, its precision and checkpointing. NULL for
one that shares its training with its batch, or has none."""

ANSWERED_WITH: Final = f"md5({_WEIGHTS} || ' ' || {_BACKEND} || ' ' || ({_DEPTH_FIRST})::text)"
"""Equal for jobs that one call to a sampler can answer: the model in memory, the backend, and whether they search depth
first, which only one backend can."""

ANSWERED_BY_ENGINE: Final = f"{_BACKEND} = 'vllm' OR ({_BACKEND} = 'auto' AND NOT ({_DEPTH_FIRST}))"
"""Whether vLLM answers the job where it is installed, as `arc_engine.sampling.backends` chooses."""

SOLVED: Final = """
    CASE WHEN results IS NOT NULL AND NOT jsonb_path_exists(solution, '$[*] ? (@ == null)')
    THEN NOT jsonb_path_exists(results, '$.test[*] ? (!(@.correct == true))') ELSE NULL END
"""
"""Whether one of two attempts is right for every test input; NULL where that is not known."""
