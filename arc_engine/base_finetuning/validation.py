"""Validation: the loss on tasks kept out of training, and how often the model answers them exactly."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional

from arc_engine.adaptation.batches import collate
from arc_engine.adaptation.examples import Example, targets
from arc_engine.base_finetuning.corpus import writer_of
from arc_engine.base_finetuning.data import SolvedTask
from arc_engine.base_finetuning.recipe import Recipe
from arc_engine.base_finetuning.stream import cut
from arc_engine.base_models.loading import LoadedBase
from arc_engine.tokens import Tokenizer
from arc_engine.views import View

BATCH_TOKENS: Final = 8192


@dataclass(frozen=True, slots=True)
class Report:
    """`loss` in nats per token of the test outputs; `accuracy` counts exact answers, of all views and test inputs."""

    loss: float
    accuracy: float
    num_answers: int
    num_too_long: int
    """Test inputs that do not fit into the sequence; they count as wrong answers, and not in the loss."""


class ValidationSet:
    """The questions: every test input of every task under the same views each time."""

    def __init__(self, recipe: Recipe, tasks: Sequence[SolvedTask], tokenizer: Tokenizer, *, max_tokens: int) -> None:
        assert recipe.validation is not None  # noqa: S101 - the caller's condition for there being tasks
        write = writer_of(recipe.validation.prompt, tokenizer)
        rng = random.Random(f"validation {recipe.seed}")
        questions = []
        for task in tasks:
            for test in task.tests:
                for number in range(recipe.validation.num_views):
                    num_shown = len(task.demonstrations)
                    distribution = recipe.augmentation.distribution()
                    view = distribution.draw(rng, num_pairs=num_shown) if number else View()
                    order = view.pair_order or range(num_shown)
                    pairs = [*(task.demonstrations[i] for i in order), test]
                    tokens = write([view.apply_pair(pair) for pair in pairs])
                    questions.append(Example(tokens.ids, targets(tokens, loss_on="test_output")))
        self._num_answers = len(questions)
        self._questions = sorted((question for question in questions if len(question) <= max_tokens), key=len)

    def measure(self, base: LoadedBase, *, accelerator: Accelerator) -> Report:
        """One forward pass per question, shared among the processes.

        Greedy decoding would give the true answer exactly when the likeliest token is the true one at every place of
        it, the end included.
        """
        batches = cut(self._questions, batch_tokens=BATCH_TOKENS)
        totals = torch.zeros(3, dtype=torch.float64, device=base.device)  # loss, tokens, exact answers
        for batch in batches[accelerator.process_index :: accelerator.num_processes]:
            totals += _measure(base.model, batch, device=base.device)
        loss, num_tokens, num_right = accelerator.reduce(totals, reduction="sum").tolist()
        return Report(
            loss=loss / max(1, num_tokens),
            accuracy=num_right / max(1, self._num_answers),
            num_answers=self._num_answers,
            num_too_long=self._num_answers - len(self._questions),
        )


@torch.no_grad()
def _measure(model: Any, questions: Sequence[Example], *, device: str) -> Tensor:  # noqa: ANN401
    """Summed loss, number of tokens of the answers, number of exact answers: `[3]`."""
    batch = collate(questions, device=device)
    hidden = model.get_decoder()(input_ids=batch.input_ids, use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[batch.is_labelled]).float()  # [num_labelled, vocab]
    is_right = torch.ones_like(batch.is_labelled)
    is_right[batch.is_labelled] = logits.argmax(-1) == batch.target_ids
    loss = functional.cross_entropy(logits, batch.target_ids, reduction="sum")
    found = [loss.item(), len(batch.target_ids), is_right.all(1).sum().item()]
    return torch.tensor(found, dtype=torch.float64, device=device)
