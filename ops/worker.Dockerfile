# The GPU worker: vLLM, and the torch build that it pins. CUDA's libraries come with torch's own packages; the machine needs
# the NVIDIA driver and container toolkit.
FROM python:3.11-slim-bookworm

# Triton and vLLM compile small kernels on first use.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /app

# The dependencies change less often than the code: a layer of their own. No constraints.txt: it pins the CPU build.
COPY pyproject.toml README.md LICENSE ./
RUN mkdir arc_engine jobs api worker arcadapt migrations \
    && pip install '.[gpu]'

COPY arc_engine arc_engine
COPY jobs jobs
COPY api api
COPY worker worker
COPY arcadapt arcadapt
COPY migrations migrations
RUN pip install --no-deps --force-reinstall .

# The same user id in both images: they share the volumes below /data.
RUN useradd --uid 10001 --create-home arcadapt \
    && mkdir -p /data/artifacts /data/work /data/huggingface \
    && chown -R arcadapt /data
USER arcadapt
# Not /app: what runs is what was installed.
WORKDIR /home/arcadapt
