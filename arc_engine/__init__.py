"""The ML half of arcadapt: ARC tasks in, adapters, candidates and attempts out.

Imports nothing of the service (no FastAPI, Celery or SQLAlchemy); torch, transformers, peft and vllm are imported
only by the GPU modules (`adaptation/`, `base_finetuning/`, `base_models/`, `sampling/`, `pretraining/`), never by the
light ones.
"""

import logging

# Where bitsandbytes is installed, PEFT imports it, and on a processor it then asks for kernels from a hub, which we do
# not use, with a warning into everybody's terminal.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
