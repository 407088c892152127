# API, migrations and beat. Torch is here only because the package asks for it: pass PyTorch's index of CPU wheels as
# --build-arg PIP_EXTRA_INDEX_URL=... and the image is gigabytes smaller.
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /app

# The dependencies change less often than the code: a layer of their own.
COPY pyproject.toml constraints.txt README.md LICENSE ./
ARG PIP_EXTRA_INDEX_URL=
RUN mkdir arc_engine jobs api worker arcadapt migrations \
    && pip install --constraint constraints.txt .

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
