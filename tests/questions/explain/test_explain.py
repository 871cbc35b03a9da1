"""`kvplan explain`: the sum is the total, the map is the model, and every kind has its reason and its source."""

import json
import re
from math import prod
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from strategies import batch_sizes, models, tokens

from kvplan.cli.app import main
from kvplan.domain.dtypes import DTYPES
from kvplan.domain.model import Layer, Memory, Model, Shared, Softmax, Window
from kvplan.domain.workload import Workload
from kvplan.questions.explain import explain
from kvplan.questions.explain.layer_map import layer_map
from kvplan.questions.explain.rules import RECURRENT_SOURCES, RULES, rules_for
from kvplan.report.answers.explain import ExplainAnswer
from kvplan.report.blocks import View
from kvplan.report.formats import render

FULL = Softmax(kv_heads=16, key_dim=128, value_dim=128)
LOCAL = Softmax(kv_heads=16, key_dim=128, value_dim=128, reach=Window(1024))


def model_of(*kept: Memory) -> Model:
    layers = tuple(Layer(index=i, memories=(m,)) for i, m in enumerate(kept))
    return Model(name="m", model_type="spec", layers=layers, attention_heads=32)


def product(text: str) -> int:
    """The product that a line shows, computed from the text alone."""
    return prod(int(number.replace(",", "")) for number in re.findall(r"(?:^| x )([\d,]+)", text))


@given(models, tokens, batch_sizes, st.sampled_from(["auto", *DTYPES]))
def test_the_numbers_in_the_lines_multiply_and_sum_to_the_total(model: Model, seq_len: int, batch: int, kv_dtype: str) -> None:
    e = explain(model, Workload(seq_len=seq_len, batch_size=batch, encoder_len=7), kv_dtype=kv_dtype)
    assert sum(product(line.product) for line in e.lines) == e.answer.total_bytes
    assert e.total_bytes == e.answer.total_bytes


@given(models)
def test_the_map_unfolds_to_every_layer(model: Model) -> None:
    unfolded: list[int] = []
    runs = layer_map(model)
    at = 0
    while at < len(runs):
        repeats, last = runs[at].repeats, runs[at].last
        end = at
        while end < len(runs) and (runs[end].repeats, runs[end].last) == (repeats, last):
            end += 1
            if repeats == 1:
                break
        size = sum(run.layers for run in runs[at:end])
        unfolded += range(runs[at].first, runs[at].first + size * repeats)
        assert unfolded[-1] == last
        at = end
    assert unfolded == list(range(len(model.layers)))


def test_a_pattern_is_written_once() -> None:
    runs = layer_map(model_of(*([LOCAL] * 5 + [FULL]) * 10, LOCAL, LOCAL))
    assert [(run.first, run.layers, run.repeats, run.last) for run in runs] == [(0, 5, 10, 59), (5, 1, 10, 59), (60, 2, 1, 61)]


def test_sharing_is_told_by_distance_or_by_index_whichever_is_shorter() -> None:
    pairs = [Shared(source=i - 1) if i % 2 else FULL for i in range(20)]
    assert [(run.words, run.repeats) for run in layer_map(model_of(*pairs))] == [
        ("GQA 16x128", 10),
        ("shares the layer before", 10),
    ]
    tail = [FULL, FULL, *[Shared(source=1)] * 8]
    assert [run.words for run in layer_map(model_of(*tail))] == ["GQA 16x128", "shares layer 1"]


@given(models)
def test_every_kind_has_a_reason_and_a_source(model: Model) -> None:
    kinds = {memory for memories in model.collapsed() for memory in memories}
    rules = rules_for(model)
    assert bool(rules) == bool(kinds) or all(type(kind).__name__ == "Index" for kind in kinds)
    assert all(rule.text and rule.source for rule in rules)
    assert len({rule.title for rule in rules}) == len(rules)


def test_every_recurrent_kind_has_a_source() -> None:
    from typing import get_args

    from kvplan.domain.model import RecurrentKind

    assert set(RECURRENT_SOURCES) == set(get_args(RecurrentKind))
    assert all(rule.source for rule in RULES.values())


@given(models, st.integers(50, 140))
def test_any_model_can_be_explained_in_every_format(model: Model, width: int) -> None:
    e = explain(model, Workload(seq_len=100, encoder_len=10))
    answer, view = ExplainAnswer(e), View(width=width)
    assert max(map(len, str(render(answer, "table", view)).splitlines())) <= width or width < 60
    assert str(render(answer, "markdown", view)).startswith("## ")
    assert json.loads(render(answer, "json", view))["explanation"]["total_bytes"] == e.total_bytes


@pytest.fixture
def gemma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    path = tmp_path / "sliding.yaml"
    path.write_text(
        "name: sliding-9b\ndtype: bfloat16\nattention_heads: 32\npattern: 2\nlayers:\n"
        "  - repeat: 5\n    of: {type: softmax, kv_heads: 16, key_dim: 128, value_dim: 128, sliding_window: 1024}\n"
        "  - {type: softmax, kv_heads: 16, key_dim: 128, value_dim: 128}\n",
        encoding="utf-8",
    )
    return str(path)


def test_the_page_teaches(gemma: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", gemma, "-s", "8k", "-b", "4"]) == 0
    assert capsys.readouterr().out == snapshot("""\
sliding-9b · ideal · bfloat16 · 4 x 8,192 tokens

Self-attention: Each new token is compared with the keys of all earlier tokens
and takes a weighted sum of their values. A token's key (after the rotary
encoding of its position) and value depend only on what came before it, so they
never change: each is computed once, kept, and read at every later step. Queries
are used once and are not kept.

Grouped heads: Several query heads share one key and value head (GQA; MQA when
there is only one), so the cache holds kv_heads and not the query heads.

Sliding window: A sliding layer sees only its last `window` tokens, so older
keys and values can be dropped: its cache stops growing.

layer map of 12 layers

layers  each remembers            repeated
─────────────────────────────────────────────────
0-4     GQA 16x128, window 1,024  x2, to layer 11
5       GQA 16x128                x2, to layer 11

the sum

term                               product                                 bytes
────────────────────────────────────────────────────────────────────────────────
keys (GQA 16x128, window 1,024)    10 layers x 4 sequences x 16      167,772,160
                                   kv_heads x 1,024 tokens x 128
                                   head_dim x 2 B
values (GQA 16x128, window 1,024)  10 layers x 4 sequences x 16      167,772,160
                                   kv_heads x 1,024 tokens x 128
                                   head_dim x 2 B
keys (GQA 16x128)                  2 layers x 4 sequences x 16       268,435,456
                                   kv_heads x 8,192 tokens x 128
                                   head_dim x 2 B
values (GQA 16x128)                2 layers x 4 sequences x 16       268,435,456
                                   kv_heads x 8,192 tokens x 128
                                   head_dim x 2 B

total                                                                872,415,232

note: each further token of a sequence: 16,384 B; evidence: theory

where the numbers come from

key                          value  from
──────────────────────────────────────────────────
attention_heads              32     sliding.yaml:3
layers[0].repeat             5      sliding.yaml:6
layers[0].of.key_dim         128    sliding.yaml:7
layers[0].of.value_dim       128    sliding.yaml:7
layers[0].of.kv_heads        16     sliding.yaml:7
layers[0].of.sliding_window  1,024  sliding.yaml:7
layers[1].key_dim            128    sliding.yaml:8
layers[1].value_dim          128    sliding.yaml:8
layers[1].kv_heads           16     sliding.yaml:8
pattern                      2      sliding.yaml:4

sources

rule              source
────────────────────────────────────────────────────────────────────────────────
self-attention    Vaswani et al. 2017 (arXiv 1706.03762) section 3.2; rotary
                  encoding: arXiv 2104.09864
grouped heads     MQA: arXiv 1911.02150 section 3; GQA: arXiv 2305.13245 section
                  2.2
sliding window    Longformer, arXiv 2004.05150 section 3.1; Mistral-7B, arXiv
                  2310.06825 section 2 (rolling buffer)
storage in ideal  kvplan/engines/ideal: each element once, no blocks, no
                  padding: the least that the model needs
""")


def test_there_is_no_csv_of_an_explanation(gemma: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", gemma, "-f", "csv"]) == 2
    assert "an explanation has no CSV form" in capsys.readouterr().err


def test_machines_get_the_formula_and_the_sources(gemma: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", gemma, "-f", "json", "--kv-dtype", "q8_0"]) == 0
    e = json.loads(capsys.readouterr().out)["explanation"]
    assert sum(line["bytes"] for line in e["formula"]) == e["total_bytes"]
    assert {"rule": "sliding window", "source": RULES["window"].source} in e["sources"]
    assert e["layer_map"][0] == {"first": 0, "layers": 5, "words": "GQA 16x128, window 1,024", "repeats": 2, "last": 11}
