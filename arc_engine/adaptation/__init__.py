"""Test-time fine-tuning: a LoRA adapter, trained on the demonstration pairs of one task or of several.

`steps`, `schedule`, `stopping`, `examples` and `mixture` are light; the others import torch and peft.
"""
