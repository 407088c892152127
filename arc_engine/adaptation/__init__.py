"""Test-time fine-tuning: one LoRA adapter, trained on the demonstration pairs of one task.

`steps` and `examples` are light; `adapter`, `lora`, `batches` and `adapt` import torch and peft.
"""
