"""What the pipeline benchmark compares with: fine-tuning, merging, inference and voting as scripts.

Training is transformers' `Trainer` with PEFT, merging PEFT's, generation vLLM's offline `LLM`. Views, prompts, decoding
and the vote are arc_engine's, so that both sides train on the same sequences and answer the same prompts.
"""
