"""Grid encoders: every expression round-trips, every fault has its reason, and no expression is ever evaluated."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.encoders import ENCODERS, MAX_EXPRESSION_CHARS, GridShapeEncoder, Refusal, parse_encoder
from arc_engine.errors import InvalidEncoder
from tests.fixtures.grid_strategies import grids

pytestmark = pytest.mark.fast

SYMBOLS = "['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j']"
CELLS = [
    "MinimalGridEncoder()",
    "GridWithSeparationEncoder()",
    "GridWithSeparationEncoder(' ')",
    "GridWithSeparationEncoder(separator=', ')",
    "RepeatNumberEncoder()",
    "RepeatNumberEncoder(n=1)",
    "RepeatNumberEncoder(10)",
]
REPLACED = [f"ReplaceNumberEncoder({cells}, {SYMBOLS})" for cells in CELLS] + [
    "ReplaceNumberEncoder(MinimalGridEncoder())",
    "ReplaceNumberEncoder(MinimalGridEncoder(), 'ñòóôõö÷øùú')",
    "ReplaceNumberEncoder(MinimalGridEncoder(), symbols='`.-_=+*#@!')",
]
NUMBERED = [f"RowNumberEncoder({lines})" for lines in CELLS + REPLACED]
BODIES = [*CELLS, *REPLACED, *NUMBERED, "CoordinateEncoder()"]
EXPRESSIONS = BODIES + [f"{block}({body})" for block in ("GridCodeBlockEncoder", "GridShapeEncoder") for body in BODIES]


@given(st.sampled_from(EXPRESSIONS), grids())
def test_what_is_encoded_can_be_decoded(expression, grid):
    encoder = parse_encoder(expression)
    assert encoder.decode(encoder.encode(grid)) == grid


@given(st.sampled_from(EXPRESSIONS), st.text(alphabet="0123456789abj|, `gridshape:x\n", max_size=200))
def test_any_text_is_a_valid_grid_or_a_refusal(expression, text):
    encoder = parse_encoder(expression)
    decoded = encoder.decode(text)
    if not isinstance(decoded, Refusal):
        assert encoder.decode(encoder.encode(decoded)) == decoded


@given(st.sampled_from(EXPRESSIONS), grids(max_side=4), st.data())
def test_a_damaged_text_is_never_taken_for_a_ragged_grid(expression, grid, data):
    text = parse_encoder(expression).encode(grid)
    at = data.draw(st.integers(0, len(text) - 1))
    decoded = parse_encoder(expression).decode(text[:at] + text[at + 1 :])
    assert isinstance(decoded, Refusal) or len({len(row) for row in decoded}) == 1


ENCODED = {
    "MinimalGridEncoder()": "12\n34",
    "GridWithSeparationEncoder('|')": "1|2\n3|4",
    "RepeatNumberEncoder(3)": "111222\n333444",
    f"ReplaceNumberEncoder(MinimalGridEncoder(), {SYMBOLS})": "bc\nde",
    "ReplaceNumberEncoder(MinimalGridEncoder())": "ò÷\nûą",
    "RowNumberEncoder(MinimalGridEncoder())": "1 12\n2 34",
    "CoordinateEncoder()": "1:a1b2\n2:a3b4",
    "GridShapeEncoder(CoordinateEncoder())": "```grid shape: 2x2\n1:a1b2\n2:a3b4\n```",
    "GridCodeBlockEncoder(MinimalGridEncoder())": "```grid\n12\n34\n```",
    "GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))": "```grid shape: 2x2\n1 12\n2 34\n```",
}


@pytest.mark.parametrize(("expression", "text"), ENCODED.items())
def test_the_written_form(expression, text):
    assert parse_encoder(expression).encode(((1, 2), (3, 4))) == text


# What the arc24 solution tests its encoders with, and what its training scripts say.
ARC24 = {
    "MinimalGridEncoder()": "12\n34",
    "GridWithSeparationEncoder('|')": "1|2\n3|4",
    "GridCodeBlockEncoder(GridWithSeparationEncoder('|'))": "```grid\n1|2\n3|4\n```",
    "GridCodeBlockEncoder(RepeatNumberEncoder(3))": "```grid\n111222\n333444\n```",
    "GridShapeEncoder(RepeatNumberEncoder(2))": "```grid shape: 2x2\n1122\n3344\n```",
    "GridCodeBlockEncoder(RowNumberEncoder(MinimalGridEncoder()))": "```grid\n1 12\n2 34\n```",
    "GridShapeEncoder(ReplaceNumberEncoder(MinimalGridEncoder()))": "```grid shape: 2x2\nò÷\nûą\n```",
    "GridShapeEncoder(RowNumberEncoder(ReplaceNumberEncoder(MinimalGridEncoder())))": (
        "```grid shape: 2x2\n1 ò÷\n2 ûą\n```"
    ),
}


@pytest.mark.parametrize(("expression", "text"), ARC24.items())
def test_expressions_of_the_field_mean_what_they_mean_there(expression, text):
    encoder = parse_encoder(expression)
    assert encoder.encode(((1, 2), (3, 4))) == text
    assert encoder.decode(text) == ((1, 2), (3, 4))


REFUSED = [
    ("MinimalGridEncoder()", "", Refusal.EMPTY),
    ("MinimalGridEncoder()", "\n\n", Refusal.EMPTY),
    ("MinimalGridEncoder()", "12\n\n34", Refusal.EMPTY),
    ("MinimalGridEncoder()", "12\n3", Refusal.RAGGED),
    ("MinimalGridEncoder()", "12\n3a", Refusal.BAD_CELL),
    ("MinimalGridEncoder()", "1 2", Refusal.BAD_CELL),
    ("MinimalGridEncoder()", "١٢", Refusal.BAD_CELL),
    ("MinimalGridEncoder()", "1" * 31, Refusal.TOO_LARGE),
    ("MinimalGridEncoder()", "\n".join("1" * 31), Refusal.TOO_LARGE),
    ("GridWithSeparationEncoder('|')", "1|2\n3|", Refusal.BAD_CELL),
    ("GridWithSeparationEncoder('|')", "1|23", Refusal.BAD_CELL),
    ("GridWithSeparationEncoder('|')", "1|2\n3", Refusal.RAGGED),
    ("RepeatNumberEncoder(2)", "1122\n334", Refusal.BAD_CELL),
    ("RepeatNumberEncoder(2)", "1123", Refusal.BAD_CELL),
    ("RepeatNumberEncoder(2)", "1122\n33", Refusal.RAGGED),
    (f"ReplaceNumberEncoder(MinimalGridEncoder(), {SYMBOLS})", "ab1", Refusal.BAD_CELL),
    (f"ReplaceNumberEncoder(MinimalGridEncoder(), {SYMBOLS})", "abz", Refusal.BAD_CELL),
    ("RowNumberEncoder(MinimalGridEncoder())", "1 12\n3 34", Refusal.WRONG_ROW_NUMBER),
    ("RowNumberEncoder(MinimalGridEncoder())", "12\n34", Refusal.WRONG_ROW_NUMBER),
    ("RowNumberEncoder(MinimalGridEncoder())", "1 12\n2 ", Refusal.EMPTY),
    ("CoordinateEncoder()", "1:a1b2\n3:a3b4", Refusal.WRONG_ROW_NUMBER),
    ("CoordinateEncoder()", "a1b2", Refusal.WRONG_ROW_NUMBER),
    ("CoordinateEncoder()", "1:a1c2", Refusal.WRONG_COLUMN),
    ("CoordinateEncoder()", "1:12", Refusal.WRONG_COLUMN),
    ("CoordinateEncoder()", "1:a1b", Refusal.BAD_CELL),
    ("CoordinateEncoder()", "1:a1b2\n2:a3", Refusal.RAGGED),
    ("CoordinateEncoder()", "1:", Refusal.EMPTY),
    ("CoordinateEncoder()", "1:" + "".join(f"{c}0" for c in "abcdefghijklmnopqrstuvwxyzABCDE"), Refusal.TOO_LARGE),
    ("GridCodeBlockEncoder(MinimalGridEncoder())", "12\n34", Refusal.NO_CODE_BLOCK),
    ("GridCodeBlockEncoder(MinimalGridEncoder())", "```grid\n12\n34", Refusal.NO_CODE_BLOCK),
    ("GridCodeBlockEncoder(MinimalGridEncoder())", "```grid\n```", Refusal.NO_CODE_BLOCK),
    ("GridShapeEncoder(MinimalGridEncoder())", "```grid\n12\n34\n```", Refusal.NO_CODE_BLOCK),
    ("GridShapeEncoder(MinimalGridEncoder())", "```grid shape: 2x3\n12\n34\n```", Refusal.WRONG_SHAPE),
    ("GridShapeEncoder(MinimalGridEncoder())", "```grid shape: 02x2\n12\n34\n```", Refusal.WRONG_SHAPE),
    ("GridShapeEncoder(MinimalGridEncoder())", "```grid shape: 2x2\n12\n3\n```", Refusal.RAGGED),
    ("GridShapeEncoder(MinimalGridEncoder())", "```grid shape: 2x2\n12\n34\n56\n```", Refusal.WRONG_SHAPE),
    (
        "GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))",
        "```grid shape: 2x2\n1 12\n1 34\n```",
        Refusal.WRONG_ROW_NUMBER,
    ),
    (
        "GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))",
        "```grid shape: 1x2\n1 12\n2 34\n```",
        Refusal.WRONG_SHAPE,
    ),
]


@pytest.mark.parametrize(("expression", "text", "refusal"), REFUSED)
def test_a_text_that_is_no_grid_has_its_reason(expression, text, refusal):
    assert parse_encoder(expression).decode(text) is refusal


INVALID = [
    "",
    "   ",
    "MinimalGridEncoder",
    "MinimalGridEncoder(",
    "'MinimalGridEncoder()'",
    "NoSuchEncoder()",
    "MinimalGridEncoder(1)",
    "MinimalGridEncoder(unknown=1)",
    "MinimalGridEncoder(); MinimalGridEncoder()",
    "encoder = MinimalGridEncoder()",
    "MinimalGridEncoder() if 1 else MinimalGridEncoder()",
    "RowNumberEncoder()",
    "RowNumberEncoder('MinimalGridEncoder()')",
    "RowNumberEncoder(CoordinateEncoder())",
    "RowNumberEncoder(RowNumberEncoder(MinimalGridEncoder()))",
    "RowNumberEncoder(GridCodeBlockEncoder(MinimalGridEncoder()))",
    "GridShapeEncoder(GridCodeBlockEncoder(MinimalGridEncoder()))",
    "RepeatNumberEncoder(0)",
    "RepeatNumberEncoder(11)",
    "RepeatNumberEncoder(-1)",
    "RepeatNumberEncoder(True)",
    "RepeatNumberEncoder(2.0)",
    "RepeatNumberEncoder('2')",
    "RepeatNumberEncoder(1, 2)",
    f"RepeatNumberEncoder(0x{'f' * 200})",
    "GridWithSeparationEncoder('')",
    "GridWithSeparationEncoder('1')",
    "GridWithSeparationEncoder('\\n')",
    "GridWithSeparationEncoder('\\x00')",
    "GridWithSeparationEncoder('\\ud800')",
    "GridWithSeparationEncoder(['|'])",
    "GridWithSeparationEncoder(7)",
    "GridWithSeparationEncoder(b'|')",
    "GridWithSeparationEncoder(None)",
    "ReplaceNumberEncoder(MinimalGridEncoder(), 'abc')",
    "ReplaceNumberEncoder(MinimalGridEncoder(), 'aabcdefghi')",
    "ReplaceNumberEncoder(MinimalGridEncoder(), 'aabcdefghij')",
    "ReplaceNumberEncoder(MinimalGridEncoder(), '1bcdefghij')",
    "ReplaceNumberEncoder(MinimalGridEncoder(), 'a cdefghij')",
    "ReplaceNumberEncoder(MinimalGridEncoder(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])",
    "ReplaceNumberEncoder(GridWithSeparationEncoder('a'), 'abcdefghij')",
    "ReplaceNumberEncoder(RowNumberEncoder(MinimalGridEncoder()), 'abcdefghij')",
    "MinimalGridEncoder()\x00",
    "MinimalGridEncoder() # \ud800",
    "(" * MAX_EXPRESSION_CHARS,
    "MinimalGridEncoder" + "()" * 140,
    "RowNumberEncoder(" * 17 + ")" * 10,
    " " * MAX_EXPRESSION_CHARS + "MinimalGridEncoder()",
]


@pytest.mark.parametrize("expression", INVALID)
def test_an_expression_that_names_no_encoder_is_refused(expression):
    with pytest.raises(InvalidEncoder) as refused:
        parse_encoder(expression)
    assert len(str(refused.value)) < 2 * MAX_EXPRESSION_CHARS


ATTACKS = [
    "__import__('os').system('touch {mark}')",
    "open('{mark}', 'w')",
    "exec(\"open('{mark}', 'w')\")",
    "MinimalGridEncoder(open('{mark}', 'w'))",
    "RowNumberEncoder(inner=open('{mark}', 'w'))",
    "RowNumberEncoder(*[open('{mark}', 'w')])",
    "RowNumberEncoder(**open('{mark}', 'w'))",
    "GridWithSeparationEncoder([open('{mark}', 'w') for _ in 'x'])",
    "GridWithSeparationEncoder(f\"{{open('{mark}', 'w')}}\")",
    "GridWithSeparationEncoder(separator=(lambda: open('{mark}', 'w'))())",
    "MinimalGridEncoder().__class__.__init__.__globals__['ast']",
    "MinimalGridEncoder.__init__()",
    "(lambda: open('{mark}', 'w'))()",
    "(x := open('{mark}', 'w'))",
    "parse_encoder('MinimalGridEncoder()')",
    "GridEncoder()",
    "Refusal('empty')",
    "'a' * 10**10",
    "RepeatNumberEncoder(10**10**10)",
    "GridWithSeparationEncoder('|' * 10**10)",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_and_not_run(attack, tmp_path):
    mark = tmp_path / "ran"
    with pytest.raises(InvalidEncoder):
        parse_encoder(attack.format(mark=mark))
    assert not mark.exists()


def test_parsing_never_reaches_eval_exec_or_compile_of_code():
    # An audit hook cannot be taken away again, so this runs in a process of its own.
    script = """
import sys
from arc_engine.encoders import parse_encoder
from arc_engine.errors import InvalidEncoder
events = []
sys.addaudithook(lambda event, _: events.append(event))
for expression in sys.argv[1:]:
    try:
        parse_encoder(expression)
    except InvalidEncoder:
        pass
assert not {"exec", "open", "os.system", "subprocess.Popen"} & set(events), events
"""
    expressions = [*ENCODED, *(attack.format(mark="/tmp/no") for attack in ATTACKS)]  # noqa: S108 - never made
    subprocess.run([sys.executable, "-c", script, *expressions], check=True)


@given(st.text(max_size=60))
def test_any_text_is_an_encoder_or_refused(expression):
    try:
        encoder = parse_encoder(expression)
    except InvalidEncoder:
        return
    assert type(encoder).__name__ in ENCODERS


def test_the_shape_is_height_by_width():
    encoder = parse_encoder("GridShapeEncoder(MinimalGridEncoder())")
    assert isinstance(encoder, GridShapeEncoder)
    assert encoder.encode(((1, 2, 3),)).startswith("```grid shape: 1x3\n")
