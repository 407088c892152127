"""The ML half of arcadapt: ARC tasks in, adapters, candidates and attempts out.

Imports nothing of the service (no FastAPI, Celery or SQLAlchemy); torch, transformers, peft and vllm are imported
only by the GPU modules (`adaptation/`, `sampling/`, `base_models/`, `pretraining/`), never by the light ones.
"""
