"""Base models: where they come from, how they are loaded, and how a base adapter is merged into one.

`sources` and `manifest` are light; `loading` and `merging` import torch, transformers and peft.
"""
