"""Every number that papers print, to the printed digits; and that no prediction sees the record."""

from fractions import Fraction

import pytest
from each import each
from golden import GOLDEN, cases
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.engines.kernel.cases import InvalidCase, record_from
from kvplan.engines.kernel.printed import read_printed, written_like
from kvplan.questions.audit import papers
from kvplan.questions.audit.formulas import evaluate
from kvplan.questions.audit.judge import judge

CASES = cases("papers")
ALTERED = {
    int: lambda v: v + 1,
    float: lambda v: v * 1.5,
    str: lambda v: v.translate(str.maketrans("0123456789", "1234567890")),
}


@each("case", CASES, ids=lambda case: case["id"])
def test_prediction_equals_the_paper(case: dict) -> None:
    result = judge(record_from(case, where="test"))
    assert result.status == "exact", result
    assert result.facts


def _altered(value: object) -> object:
    if isinstance(value, dict):
        return {key: _altered(item) for key, item in value.items()}
    return ALTERED[type(value)](value)


@each("case", CASES, ids=lambda case: case["id"])
def test_another_record_differs_and_leaves_the_prediction_alone(case: dict) -> None:
    right = judge(record_from(case, where="test"))
    wrong = judge(record_from({**case, "expected": _altered(case["expected"])}, where="test"))
    assert wrong.status == "differs"
    for a, b in zip(right.facts, wrong.facts, strict=True):
        if a.name == "formula_bytes_per_token":
            assert isinstance(b.predicted, int)
        elif a.name.endswith("_printed"):  # what it says instead would itself be exact
            instead = {**case, "expected": {b.name: b.predicted}}
            assert judge(record_from(instead, where="test")).status == "exact"
        else:
            assert b.predicted == a.predicted


def test_what_is_no_cache_fact_is_left_out() -> None:
    names = {fact.name for result in kvplan.audit(GOLDEN / "papers.jsonl").results for fact in result.facts}
    assert names == {
        "bytes_per_token",
        "bytes_per_token_printed",
        "formula_bytes_per_token",
        "kv_elements_per_token_printed",
        "kv_gb_printed",
        "one_request_2048_printed",
        "total_printed",
    }


def test_a_number_from_an_older_config_is_told_as_such() -> None:
    (case,) = [c for c in CASES if c["id"] == "paper/hf-blog-llama31/Llama-3.1-405B"]
    assert "16 KV heads" in judge(record_from(case, where="test")).reason
    eight = {**case, "source": "another post"}  # the same table without the erratum is twice too large
    assert judge(record_from(eight, where="test")).status == "differs"


def test_a_config_without_a_model_type_is_read_by_its_dimensions() -> None:
    data = {"num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
    shared = {**data, "use_cla": True, "cla_share_factor": 2}
    unused = {**data, "use_cla": False, "cla_share_factor": 2}
    mapped = {**data, "kv_source_layer": [0, 0, 0, 0]}
    for config, owners in ((data, 4), (shared, 2), (unused, 4), (mapped, 1)):
        model = papers.explicit_model(config, source="test", name="m")
        assert kvplan.estimate(model, seq_len=1).bytes_per_token == owners * 2 * 2 * 64 * 2


@each(
    ("change", "reason"),
    [
        ({"kv_source_layer": [1, 1, 2, 3]}, "layer 0 shares layer 1, which is not earlier"),
        ({"kv_source_layer": [0, 0]}, "`kv_source_layer` has 2 entries for 4 layers"),
        ({"head_dim": -1}, "`head_dim` must be a whole number"),
        ({"head_dim": None, "hidden_size": 65}, "65 is not divisible by 8 query heads"),
        ({"num_hidden_layers": 10**400}, "a number of more than 18 digits"),
        ({"torch_dtype": "float7"}, "unknown dtype `float7`"),
    ],
)
def test_a_config_that_contradicts_itself_is_one_reason(change: dict, reason: str) -> None:
    config = {"num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, **change}
    case = {"id": "c", "engine": "paper", "config": config, "expected": {"bytes_per_token": 1}}
    result = judge(record_from(case, where="test"))
    assert result.status in {"invalid", "not_predicted"}
    assert reason in result.reason


@given(st.integers(0, 10**15), st.integers(0, 6))
def test_a_rounded_or_truncated_number_is_recognised_and_its_neighbours_are_not(amount: int, decimals: int) -> None:
    exact = Fraction(amount, 10**6)
    scale = 10**decimals
    rounded, cut = int(exact * scale + Fraction(1, 2)), int(exact * scale)

    def text(units: int) -> str:
        return f"{units // scale}" + (f".{units % scale:0{decimals}d}" if decimals else "")

    assert read_printed(text(rounded), "x").holds(exact)
    assert read_printed(text(cut), "x").holds(exact)
    assert not read_printed(text(rounded + 1), "x").holds(exact)
    if cut:
        assert not read_printed(text(cut - 1), "x").holds(exact)


@each(
    ("recorded", "amount", "convention", "shown"),
    [
        ("800 KB", 819200, "binary", "800 KB"),
        ("800 KB", 819200, "decimal", "819 KB"),
        ("800 KB", 819200, "open", "800 KB"),
        ("800 KiB", 819200, "decimal", "800 KiB"),
        ("70.272 KB", 70272, "decimal", "70.272 KB"),
        ("1.2 TB", 1314259992576, "binary", "1.2 TB"),
        (15.62, 16777216000, "binary", 15.62),
        (15.63, 16777216000, "binary", 15.63),
        (15.64, 16777216000, "binary", 15.63),
        (33, 34359738368, "binary", 32),
    ],
)
def test_a_prediction_is_written_as_the_record_is(recorded: object, amount: int, convention: str, shown: object) -> None:
    assert written_like(recorded, (Fraction(amount),), "x", unit="GB", convention=convention) == shown


@each("value", ["", "many", "8 parsecs", True, None, [1], float("nan"), "1e5", "9" * 99])
def test_what_is_no_quantity_is_refused(value: object) -> None:
    with pytest.raises(InvalidCase):
        read_printed(value, "x")


@each("formula", ["__import__('os')", "l**9**9", "l()", "l.x", "[l]", "1 if l else 2", "l/0", "(" * 300, "x*l", "'a'*l", ""])
def test_a_formula_is_never_code(formula: str) -> None:
    with pytest.raises(InvalidCase):
        evaluate(formula, {"l": 2})


def test_a_formula_may_be_written_in_several_ways() -> None:
    sizes = {"n_h": 3, "d_h": 5, "l": 7, "d_c": 11, "d_r": 13}
    assert evaluate("4*n_h*d_h*l", sizes) == evaluate("4 n_h d_h l", sizes) == 420
    assert evaluate("2*(d_c + d_h^R)*l", sizes) == 336
    assert evaluate("9/2*d_h*l", sizes) == Fraction(315, 2)
