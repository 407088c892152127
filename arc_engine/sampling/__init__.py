"""Sampling: prompts in, completions out, by vLLM in a process of its own or by plain torch."""
