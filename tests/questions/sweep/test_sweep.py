"""Every cell of a sweep is the scalar planner's answer, whatever the format; what does not fit is refused."""

import csv
import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from each import each
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from shipped import of_catalogue
from strategies import batch_sizes, models, tokens

import kvplan
from kvplan.domain.allocation import COLUMNS as CSV_COLUMNS
from kvplan.domain.allocation import NotPredicted
from kvplan.domain.model import Compressed, Layer, Model, Softmax, Window
from kvplan.domain.workload import Workload
from kvplan.engines import PREDICTED, make_engine
from kvplan.engines.ideal import engine as ideal
from kvplan.engines.kernel.engine import footprint
from kvplan.engines.kernel.tensors import At
from kvplan.errors import OptionError, Refused
from kvplan.loading import catalogue
from kvplan.questions.estimate import plan
from kvplan.questions.sweep import grid
from kvplan.questions.sweep.grid import Sweep
from kvplan.report.answers.sweep import sweep_rows, sweep_table

SMALL_DTYPES = st.lists(st.sampled_from(["auto", "fp8", "q8_0", "nvfp4"]), min_size=1, max_size=2, unique=True)


def _model(*memories: Any, name: str = "m") -> Model:
    return Model(name=name, model_type="spec", layers=tuple(Layer(index=i, memories=(m,)) for i, m in enumerate(memories)))


FULL = Softmax(kv_heads=2, key_dim=8, value_dim=8)
SLIDING = Softmax(kv_heads=2, key_dim=8, value_dim=8, reach=Window(100))


def _expected(sweep: Sweep, chosen: list[Model], dtypes: list[str], encoder_len: int) -> list[dict[str, Any]]:
    rows = []
    cells = itertools.product(chosen, dtypes, sweep.seq_lens.tolist(), sweep.batch_sizes.tolist())
    for model, dtype, seq_len, batch_size in cells:
        workload = Workload(seq_len=seq_len, batch_size=batch_size, encoder_len=encoder_len)
        whole = plan(model, workload, kv_dtype=dtype)
        assert not isinstance(whole, NotPredicted)
        told = whole.to_dict()
        rows.append({name: told[name] for name in CSV_COLUMNS})
    return rows


@given(
    st.lists(models, min_size=1, max_size=2),
    st.lists(tokens, min_size=1, max_size=5),
    st.lists(batch_sizes, min_size=1, max_size=4),
    SMALL_DTYPES,
    st.sampled_from([0, 7]),
)
def test_every_cell_equals_the_scalar_planner(
    chosen: list[Model], seq_lens: list[int], batches: list[int], dtypes: list[str], encoder_len: int
) -> None:
    sweep = Sweep(models=chosen, seq_lens=seq_lens, batch_sizes=batches, kv_dtypes=dtypes, encoder_len=encoder_len)
    assert sweep_rows(sweep) == _expected(sweep, chosen, dtypes, encoder_len)
    assert len(sweep) == len(sweep_rows(sweep))


@each("engine", sorted(PREDICTED))
def test_every_catalogue_model_sweeps_as_it_is_estimated(engine: str) -> None:
    predicted, made = 0, make_engine(engine, {})
    for name in catalogue.names():
        model = of_catalogue(name)
        sweep = Sweep(models=[model], seq_lens=[1000, 131_072], batch_sizes=[3], engines=[engine])
        rows = sweep_rows(sweep)
        prepared = made.on(model) if rows else None  # not the sweep's own: what it worked out is not asked of it
        for row in rows:
            assert prepared is not None
            told = footprint(prepared, Workload(seq_len=row["seq_len"], batch_size=row["batch_size"]))
            assert told.allocated_bytes == prepared.totals(At(row["seq_len"], row["batch_size"])).allocated
            as_told = told.to_dict()
            assert row == {key: as_told[key] for key in CSV_COLUMNS}
            predicted += 1
    assert predicted > 100


@given(models, st.lists(tokens, min_size=1, max_size=9), st.lists(batch_sizes, min_size=1, max_size=9), st.booleans())
def test_blocks_do_not_show(model: Model, seq_lens: list[int], batches: list[int], linear: bool) -> None:
    whole = Sweep(models=[model], seq_lens=seq_lens, batch_sizes=batches)
    expected = sweep_rows(whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "BLOCK_CELLS", 4)
        patch.setattr(grid, "BLOCK_TOKENS", 2)
        patch.setattr(ideal.IdealOn, "linear_in_batch", linear)  # both ways of evaluating an engine
        assert sweep_rows(whole) == expected
        columns = whole.columns(whole.combinations[0])
        assert all(len(block["seq_len"]) <= 4 for block in whole.batches())
    for name, array in columns.items():
        assert array.tolist() == [row[name] for row in expected]


@settings(max_examples=30)
@given(st.lists(models, min_size=1, max_size=2), st.lists(tokens, min_size=1, max_size=4), st.lists(batch_sizes, max_size=3))
def test_csv_parquet_and_frame_agree(chosen: list[Model], seq_lens: list[int], batches: list[int]) -> None:
    sweep = Sweep(models=chosen, seq_lens=seq_lens, batch_sizes=[1, *batches], kv_dtypes=["auto", "int8"])
    text, binary = io.BytesIO(), io.BytesIO()
    sweep.write_csv(text)
    sweep.write_parquet(binary)
    rows = list(csv.reader(io.StringIO(text.getvalue().decode())))
    frame, parquet = sweep.to_frame(), pd.read_parquet(binary)
    assert rows[0] == list(frame.columns) == list(parquet.columns) == list(CSV_COLUMNS)
    others = [name for name in CSV_COLUMNS if name != "model"]  # a name is made safe where a spreadsheet may open it
    assert [row[1:] for row in rows[1:]] == [list(map(str, row)) for row in frame[others].itertuples(index=False)]
    assert [row[0] for row in rows[1:]] == parquet["model"].astype(str).tolist()
    for name in others:
        assert frame[name].tolist() == parquet[name].tolist()
    assert all(frame[name].dtype == np.int64 for name in CSV_COLUMNS if name.endswith("_bytes"))


def test_the_csv_is_what_estimate_prints(capsys: pytest.CaptureFixture[str]) -> None:
    from kvplan.cli.app import main

    assert main(["estimate", "gemma-3-27b", "-s", "5000", "-b", "3", "--kv-dtype", "fp8", "-f", "csv"]) == 0
    out = io.BytesIO()
    kvplan.sweep("gemma-3-27b", seq_len=[5000], batch_size=[3], kv_dtype=["fp8"]).write_csv(out)
    printed = [line.rpartition(",") for line in capsys.readouterr().out.splitlines()]
    assert out.getvalue().decode().splitlines() == [line for line, _, _ in printed]
    assert [last for _, _, last in printed] == ["not_predicted", ""]  # what a sweep says in a note


def test_hostile_names_are_made_safe_in_files() -> None:
    hostile = '=1+1,"x"\x1b[31m'
    sweep = Sweep(models=[_model(FULL, name=hostile)], seq_lens=[8])
    text, binary = io.BytesIO(), io.BytesIO()
    sweep.write_csv(text)
    sweep.write_parquet(binary)
    written = next(csv.DictReader(io.StringIO(text.getvalue().decode())))["model"]
    assert written == pd.read_parquet(binary)["model"][0] == '\'=1+1,"x"\ufffd[31m'


@given(st.integers(2**40, 2**53 - 1), st.integers(1, 2**53), st.sampled_from([FULL, SLIDING]))
def test_a_cell_is_exact_or_refused_but_never_wraps(seq_len: int, batch_size: int, memory: Softmax) -> None:
    model = _model(memory)
    whole = plan(model, Workload(seq_len=seq_len, batch_size=batch_size))
    assert not isinstance(whole, NotPredicted)
    if max(plan(model, Workload(seq_len=seq_len + 1, batch_size=batch_size)).total_bytes, (seq_len + 1) * batch_size) >= 2**60:
        with pytest.raises(OptionError, match="64-bit"):
            Sweep(models=[model], seq_lens=[1, seq_len], batch_sizes=[1, batch_size])
    else:
        sweep = Sweep(models=[model], seq_lens=[1, seq_len], batch_sizes=[1, batch_size])
        assert sweep_rows(sweep)[-1]["total_bytes"] == whole.total_bytes


def test_a_growth_period_beyond_64_bits_is_refused() -> None:
    memories = [Softmax(kv_heads=1, key_dim=1, value_dim=1, reach=Compressed(ratio)) for ratio in (2**40, 3**25)]
    with pytest.raises(OptionError, match="64-bit"):
        Sweep(models=[_model(*memories)], seq_lens=[1])


@each("bad", [[], [True], [1.5], [-1], ["8"], [2**53 + 1], [10**400], [None]])
def test_axes_take_counts_only(bad: list[Any]) -> None:
    with pytest.raises(OptionError):
        Sweep(models=[_model(FULL)], seq_lens=bad)
    with pytest.raises(OptionError):
        Sweep(models=[_model(FULL)], seq_lens=[1], batch_sizes=bad)


def test_numpy_counts_are_counts() -> None:
    sweep = Sweep(models=[_model(FULL)], seq_lens=np.array([8, 16]), batch_sizes=np.arange(1, 3, dtype=np.int32))
    assert sweep.seq_lens.tolist() == [8, 16]
    assert len(sweep) == 4


def test_what_an_engine_cannot_predict_has_a_note_and_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = ideal.Ideal.on

    def on(self: ideal.Ideal, model: Model) -> ideal.IdealOn:
        if model.name == "b":
            raise Refused("no rule for b")
        return answered(self, model)

    monkeypatch.setattr(ideal.Ideal, "on", on)
    sweep = Sweep(models=[_model(FULL, name="a"), _model(FULL, name="b")], seq_lens=[8, 16])
    assert len(sweep) == 2
    assert set(sweep.to_frame()["model"]) == {"a"}
    assert any("b in ideal" in note and "no rule for b" in note for note in sweep.notes)
    nothing = Sweep(models=[_model(FULL, name="b")], seq_lens=[8, 16])
    assert len(nothing) == 0
    assert nothing.to_frame().columns.tolist() == list(CSV_COLUMNS)
    assert sweep_table(nothing, 100).rows == ()


def test_tensor_parallel_is_an_axis() -> None:
    frame = kvplan.sweep("llama-3.1-8b", seq_len=[1024], tensor_parallel=[1, 2, 8]).to_frame()
    assert frame["tensor_parallel"].tolist() == [1, 2, 8]
    whole = frame["total_bytes"][0]
    assert frame["total_bytes"].tolist() == [whole, whole // 2, whole // 8]


def test_a_sweep_shows_itself_in_short() -> None:
    sweep = kvplan.sweep(["llama-3.1-8b", "gemma-3-27b"], seq_len=range(1, 5001))
    assert "10,000 rows" in repr(sweep)
    assert sweep._repr_html_().count("<tr>") == 101
    assert "9,900 more rows" in sweep._repr_html_()
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(sweep)
    assert len(re.findall("^ .* 131,072  ", console.export_text(), re.MULTILINE)) == 99  # the model's name stands once


def test_a_file_that_cannot_grow_is_one_error(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    sweep = Sweep(models=[_model(FULL)], seq_lens=range(1, 200_001))
    for write in (sweep.write_csv, sweep.write_parquet):
        with pytest.raises(OSError, match="No space left"):
            write("/dev/full")


def test_progress_counts_every_row_once(tmp_path: Path) -> None:
    sweep = Sweep(models=[_model(FULL), _model(SLIDING)], seq_lens=range(1, 70_001), batch_sizes=[1, 2])
    for write, path in ((sweep.write_csv, tmp_path / "a.csv"), (sweep.write_parquet, tmp_path / "a.parquet")):
        told: list[int] = []
        write(path, told.append)
        assert sum(told) == len(sweep) == 280_000
    assert (tmp_path / "a.csv").read_bytes().count(b"\n") == 280_001
    assert len(pd.read_parquet(tmp_path / "a.parquet")) == 280_000
    assert json.loads(json.dumps(sweep_rows(sweep, 1)))[0]["seq_len"] == 1
