"""`kvplan compare --budget`: designs that keep at most a share, the mildest of each kind, and what they can still see."""

import json

import pytest
from doors import here, refused
from each import each
from hypothesis import given, settings
from hypothesis import strategies as st

import kvplan
from kvplan.domain.allocation import Allocation
from kvplan.domain.model import Latent, Layer, Model, Recurrent, Softmax, State, Window
from kvplan.domain.variants import variant
from kvplan.errors import OptionError
from kvplan.questions.compare import Comparison
from kvplan.questions.designs import budget_from, sees

HEAD = Softmax(kv_heads=8, key_dim=64, value_dim=64)
LOCAL = Softmax(kv_heads=8, key_dim=64, value_dim=64, reach=Window(1024))
MLA = Latent(rank=512, rope_dim=64, heads=16, nope_dim=128, value_dim=128)
STATE = Recurrent(states=(State(name="ssm", shape=(4, 8)),))
MODELS = {"full": (HEAD,) * 6, "mixed": (LOCAL, LOCAL, HEAD) * 2, "latent": (MLA,) * 4, "hybrid": (STATE, STATE, HEAD) * 2}


def model_of(kind: str, heads: int | None = 16) -> Model:
    layers = tuple(Layer(index=i, memories=(memory,)) for i, memory in enumerate(MODELS[kind]))
    return Model(name="m", model_type="spec", layers=layers, attention_heads=heads)


def texts(found: Comparison) -> list[str]:
    return [row.model.name.removeprefix("m [").removesuffix("]") for row in found.rows[1:]]


@settings(max_examples=12)
@given(st.sampled_from(sorted(MODELS)), st.integers(1, 90), st.sampled_from([600, 9000, 100_000]), st.sampled_from([16, None]))
def test_every_design_keeps_at_most_the_share(kind: str, percent: int, seq_len: int, heads: int | None) -> None:
    model = model_of(kind, heads)
    found = kvplan.compare(model, budget=f"{percent}%", seq_len=seq_len, batch_size=3)
    whole = found.rows[0].total_bytes
    assert whole == kvplan.estimate(model, seq_len=seq_len, batch_size=3).total_bytes
    sizes = [row.total_bytes for row in found.rows[1:]]
    assert all(size is not None and size * 100 <= whole * percent for size in sizes)
    assert sizes == sorted(sizes, reverse=True)  # type: ignore[type-var]
    for text, row in zip(texts(found), found.rows[1:], strict=True):
        again = kvplan.estimate(variant(model, text), seq_len=seq_len, batch_size=3)
        assert isinstance(again, Allocation)
        assert again.total_bytes == row.total_bytes


def test_the_mildest_of_a_kind_stands_for_all_of_it() -> None:
    found = kvplan.compare(model_of("full"), budget="1/4", seq_len=32_768)
    assert found.rows[0].sees == "all layers every token"
    designs = texts(found)
    assert [text for text in designs if "gqa" in text and "+" not in text] == ["gqa=2"]
    assert "mqa" not in designs
    assert "cla=2" not in designs  # keeps a half
    assert any(text.startswith("gqa=4+") for text in designs)  # not enough by itself


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("window=64:5/6", "1 of 6 layers every token, 5 the last 64"),
        ("cla=2", "all layers every token (3 read another layer)"),
        ("state:1/2", "3 of 6 layers every token, 3 a state"),
        ("window=64", "all layers the last 64"),
    ],
)
def test_what_a_token_can_still_see_is_said(text: str, words: str) -> None:
    assert sees(variant(model_of("full"), text)) == words


@each("text", ["", "0", "0%", "100%", "1", "2/1", "-1%", "x", "25 percent", "1/0", "%", "1e-3", "9" * 5000, "nan"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="budget"):
        budget_from(text)


def test_the_command_says_that_it_is_hypothetical_and_gives_every_byte(capsys: pytest.CaptureFixture[str]) -> None:
    end = here(capsys, "compare", "llama-3.1-8b", "--budget", "25%", "-s", "32k")
    assert end.code == 0
    assert "hypothetical: no released model has these layers" in " ".join(end.out.split())
    rows = json.loads(here(capsys, "compare", "llama-3.1-8b", "--budget", "25%", "-s", "32k", "-f", "json").out)["comparison"]
    assert rows[0]["total_bytes"] == 2**32
    assert all(row["total_bytes"] <= 2**30 and row["sees"] for row in rows[1:])
    assert {"llama-3.1-8b [gqa=2]", "llama-3.1-8b [cla=4]"} <= {row["model"] for row in rows}
    csv = here(capsys, "compare", "llama-3.1-8b", "--budget", "1GiB", "-s", "32k", "-f", "csv").out
    assert csv.splitlines()[0].endswith(",sees")
    assert len(csv.splitlines()) == len(rows) + 1


def test_no_design_is_the_answer_no(capsys: pytest.CaptureFixture[str]) -> None:
    end = here(capsys, "compare", "llama-3.1-8b", "--budget", "0.0001%", "-s", "1k")
    assert end.code == 1
    assert "designs keeps at most 0.0001%" in end.err


@pytest.mark.parametrize(
    "more", [["gpt2"], ["-s", "1k,2k"], ["-e", "ideal,vllm"], ["--kv-dtype", "all"], ["--variant", "mqa"], ["--baseline", "1"]]
)
def test_a_search_is_of_one_thing(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    refused(here(capsys, "compare", "llama-3.1-8b", *more, "--budget", "25%"), words="--budget searches designs of one model")
