"""Trimmed models write the same prompts with fewer tokens, and think the same of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from arc_engine.base_models.loading import load_base
from arc_engine.base_models.manifest import hash_folder
from arc_engine.base_models.trimming import ENCODERS_IN_USE, trim
from arc_engine.errors import BaseModelError
from arc_engine.pretraining.coordinates import settle_coordinates
from arc_engine.pretraining.model import build_model
from arc_engine.pretraining.tokenizer import build_tokenizer
from arc_engine.prompts.writer import PromptWriter
from arc_engine.settings import PromptSettings
from arc_engine.tasks import Pair
from tests.arc_engine.pretraining.tiny import tiny_recipe
from tests.fixtures.models import SHAPE, save_model

SPECIAL = ["<unk>", "<s>", "</s>", "<turn>"]
CHAT_TEMPLATE = "{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
# Numbers of several digits become tokens, and so do words that no prompt holds.
TEXT = [
    "the quick brown fox jumps over the lazy dog 100 200 300 123 123 1234 4321 0000 111 222 333",
    "You solve puzzles on grids of coloured cells. Input: Output: Example Test ```grid shape: 10x10\n00 11 22",
] * 20
GRIDS = [((1, 2, 3), (4, 5, 6)), ((0, 0), (7, 8), (9, 9)), ((1, 2, 3, 4), (1, 2, 3, 4))]
PAIRS = [Pair(grid, grid) for grid in GRIDS]


def byte_level(vocab_size: int = 420) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def sentence_piece_bpe() -> Tokenizer:
    """As Llama 2 has it: spaces become a letter, bytes stand in for what is missing."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token=SPECIAL[0]))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    tokenizer.train_from_iterator(
        [line.replace("\n", "") for line in TEXT],
        trainers.BpeTrainer(vocab_size=520, special_tokens=[*SPECIAL, *bytes_], initial_alphabet=list("0123456789IO")),
    )
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] in SPECIAL]
    return Tokenizer.from_str(json.dumps(document))


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.decoder = decoders.Fuse()
    alphabet = [chr(code) for code in range(0x20, 0x7F)] + ["\n"]
    trainer = trainers.UnigramTrainer(
        vocab_size=250, special_tokens=SPECIAL, initial_alphabet=alphabet, unk_token=SPECIAL[0], max_piece_length=8
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


KINDS = {"byte level": byte_level, "sentence piece": sentence_piece_bpe, "unigram": unigram}


def make_base(folder: Path, backend: Tokenizer, *, tied: bool = True, **config: Any) -> Path:
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template=CHAT_TEMPLATE, extra_special_tokens=["<turn>"], **special
    )
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    # More rows than tokens, as many models have.
    shape = SHAPE | ids | {"vocab_size": backend.get_vocab_size() + 12, "tie_word_embeddings": tied} | config
    save_model(LlamaForCausalLM, LlamaConfig(**shape), folder)
    tokenizer.save_pretrained(folder)
    return folder


def writer(folder: Path, **settings: str) -> PromptWriter:
    return PromptWriter.of(PromptSettings(**settings), load_base(folder, device="cpu").tokenizer)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_the_same_and_every_cell_is_a_token(kind: str, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", KINDS[kind]())
    report = trim(base, tmp_path / "trimmed")
    assert report.num_tokens < report.num_tokens_before - 20
    assert report.num_parameters < report.num_parameters_before
    kept = json.loads((tmp_path / "trimmed" / "manifest.json").read_text())["kept_token_ids"]
    versions = ({}, {"version": "chat"}, *({"grid_encoder": encoder} for encoder in ENCODERS_IN_USE))
    for settings in versions:
        before, after = (writer(folder, **settings).training(PAIRS) for folder in (base, tmp_path / "trimmed"))
        old = [kept[number] for number in after.ids]
        reader = load_base(base, device="cpu").tokenizer
        assert reader.decode(old, skip_special_tokens=False) == reader.decode(before.ids, skip_special_tokens=False)
        assert len(after.ids) >= len(before.ids)
    one_row = writer(tmp_path / "trimmed").num_answer_tokens(((1, 2, 3, 4, 1, 2, 3, 4),))
    assert one_row == 8 + 1
    assert writer(base).num_answer_tokens(((1, 2, 3, 4, 1, 2, 3, 4),)) < one_row  # the base merges digits


@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_what_is_left_are_those_of_the_base(tied: bool, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", byte_level(), tied=tied)
    trim(base, tmp_path / "trimmed")
    before, after = (load_base(folder, device="cpu").model for folder in (base, tmp_path / "trimmed"))
    kept = json.loads((tmp_path / "trimmed" / "manifest.json").read_text())["kept_token_ids"]
    ids = writer(tmp_path / "trimmed").training(PAIRS).ids
    with torch.no_grad():
        expected = before(input_ids=torch.tensor([[kept[number] for number in ids]])).logits[..., kept]
        logits = after(input_ids=torch.tensor([ids])).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    assert (after.get_output_embeddings().weight is after.get_input_embeddings().weight) == tied


def test_special_tokens_and_their_numbers_go_together(tmp_path: Path) -> None:
    backend = byte_level()
    turn = backend.token_to_id("<turn>")
    base = make_base(tmp_path / "base", backend, eos_token_id=[2, turn])
    trim(base, tmp_path / "trimmed")
    trimmed = load_base(tmp_path / "trimmed", device="cpu")
    tokenizer: Any = trimmed.tokenizer
    assert tokenizer.convert_ids_to_tokens(trimmed.model.config.eos_token_id) == ["</s>", "<turn>"]
    assert tokenizer.convert_ids_to_tokens([trimmed.model.config.bos_token_id]) == ["<s>"]
    assert len(tokenizer) == trimmed.model.config.vocab_size
    assert tokenizer.encode("I", add_special_tokens=True)[0] == tokenizer.bos_token_id
    assert tokenizer.chat_template == CHAT_TEMPLATE


@pytest.mark.parametrize("spelled", ["text", "object"])
def test_tokens_that_the_model_has_no_embedding_of_go(spelled: str, tmp_path: Path) -> None:
    """As when somebody added a [PAD] to the tokenizer and did not resize the model, whose own padding is no token."""
    backend = byte_level()
    base = make_base(tmp_path / "base", backend, vocab_size=backend.get_vocab_size())
    for name in ("config.json", "generation_config.json"):  # transformers itself does not write it any more
        (base / name).write_text(json.dumps(json.loads((base / name).read_text()) | {"pad_token_id": -1}))
    tokenizer: Any = load_base(base, device="cpu").tokenizer
    tokenizer.add_special_tokens({"pad_token": "[PAD]", "extra_special_tokens": ["<turn>", "[SPARE]"]})
    tokenizer.save_pretrained(base)
    if spelled == "object":
        path = base / "tokenizer_config.json"
        fields = json.loads(path.read_text())
        path.write_text(json.dumps(fields | {"pad_token": {"content": "[PAD]", "__type": "AddedToken"}}))
    trim(base, tmp_path / "trimmed")
    trimmed = load_base(tmp_path / "trimmed", device="cpu")
    assert trimmed.model.config.pad_token_id is None
    after: Any = trimmed.tokenizer
    assert len(after) == trimmed.model.config.vocab_size
    assert after.pad_token is None
    assert not {"[PAD]", "[SPARE]"} & set(after.get_vocab())
    assert "<turn>" in after.all_special_tokens
    assert writer(tmp_path / "trimmed").training(PAIRS).ids


def test_an_end_of_text_without_an_embedding_is_refused(tmp_path: Path) -> None:
    backend = byte_level()
    base = make_base(tmp_path / "base", backend, vocab_size=backend.get_vocab_size())
    tokenizer: Any = load_base(base, device="cpu").tokenizer
    tokenizer.add_special_tokens({"eos_token": "[END]"})
    tokenizer.save_pretrained(base)
    with pytest.raises(BaseModelError, match="no embedding"):
        trim(base, tmp_path / "trimmed")
    tokenizer.add_special_tokens({"eos_token": "</s>"})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "[END] $A", special_tokens=[("[END]", tokenizer.convert_tokens_to_ids("[END]"))]
    )
    tokenizer.save_pretrained(base)
    with pytest.raises(BaseModelError, match="no embedding"):
        trim(base, tmp_path / "trimmed")


def test_words_of_a_text_can_be_kept(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", byte_level())
    lengths = []
    for keep in ("", "the quick brown fox 123"):
        folder = tmp_path / f"trimmed{len(lengths)}"
        trim(base, folder, keep=keep)
        tokenizer = load_base(folder, device="cpu").tokenizer
        lengths.append([len(tokenizer.encode(text, add_special_tokens=False)) for text in (" quick brown", "123")])
        assert tokenizer.decode(
            tokenizer.encode(" quick \u00e9", add_special_tokens=False), skip_special_tokens=False
        ) == (" quick \u00e9")
    assert lengths[1][0] < lengths[0][0]
    assert lengths[1][1] == lengths[0][1] == 3  # digits stay apart


def test_an_architecture_with_its_own_tokenizer_class_is_trimmed_too(tiny_qwen2: Path, tmp_path: Path) -> None:
    report = trim(tiny_qwen2, tmp_path / "trimmed")
    assert report.max_logit_error <= 1e-5
    trimmed = writer(tmp_path / "trimmed")
    assert trimmed.read(trimmed.tokenizer.encode("12\n34", add_special_tokens=False)) == ((1, 2), (3, 4))


def test_what_cannot_be_trimmed_leaves_nothing_behind(tmp_path: Path) -> None:
    backend = Tokenizer(
        models.BPE(vocab={"<unk>": 0, "<s>": 1, "</s>": 2, "a</w>": 3}, merges=[], end_of_word_suffix="</w>")
    )
    base = make_base(tmp_path / "base", backend)
    before = hash_folder(base)
    with pytest.raises(BaseModelError):
        trim(base, tmp_path / "trimmed")
    (tmp_path / "taken").mkdir()
    with pytest.raises(BaseModelError, match="exists already"):
        trim(base, tmp_path / "taken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "taken"]
    assert hash_folder(base) == before


def test_the_encoder_that_a_base_names_is_kept_with_its_tokens(tmp_path: Path) -> None:
    recipe = tiny_recipe(grid_encoder="CoordinateEncoder()")
    model, tokenizer = build_model(recipe), build_tokenizer(recipe.grid_encoder, model_max_length=512)
    settle_coordinates(model)
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    trim(tmp_path / "base", tmp_path / "trimmed")
    trimmed = load_base(tmp_path / "trimmed", device="cpu", precision="float32").tokenizer
    before, after = (PromptWriter.of(PromptSettings(), one).training(PAIRS).ids for one in (tokenizer, trimmed))
    assert len(before) == len(after)
    assert trimmed.decode(after, skip_special_tokens=False) == tokenizer.decode(before, skip_special_tokens=False)
