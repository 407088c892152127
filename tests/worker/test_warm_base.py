"""What a worker keeps of a real base model."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from worker.warm import WarmModels


def test_every_thread_has_a_tokenizer_of_its_own(tiny_base: Path):
    models = WarmModels()
    with ThreadPoolExecutor(1) as elsewhere:
        theirs = elsewhere.submit(models.reading, tiny_base).result()
        assert models.reading(tiny_base) is models.reading(tiny_base)
        assert models.reading(tiny_base).tokenizer is not theirs.tokenizer
        assert elsewhere.submit(models.reading, tiny_base).result() is theirs


def test_the_device_is_known_once_a_base_model_is_there(tiny_base: Path):
    models = WarmModels()
    assert models.device is None
    loaded = models.base(tiny_base)
    assert models.device == loaded.device
