"""Traces: columns by name, units, hashes, and the line of what is wrong."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from kvplan import limits
from kvplan.errors import KvplanError, OptionError, TraceError
from kvplan.loading.trace import Read, read_trace


def read(tmp_path: Path, text: str, name: str = "t.csv", **more: Any) -> Read:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_trace(path, **more)


DAY = "2023-11-16 18:17:"


@pytest.mark.parametrize(
    ("text", "unit", "last"),
    [
        (f"TIMESTAMP,ContextTokens,GeneratedTokens\n{DAY}03.9799600,5,1\n{DAY}05.0799600,6,2\n", "dates", 1_100_000),
        ("arrival_s,input_tokens,output_tokens\n0.5,5,1\n2.75,6,2\n", "s", 2_250_000),
        ("ts_ms,input_len,output_len\n7,5,1\n1507,6,2\n", "ms", 1_500_000),
        ("arrived_at,num_prefill_tokens,num_decode_tokens\n0,5,1\n3,6,2\n", "s", 3_000_000),
        ("Timestamp,Request tokens,Response tokens,Model\n5,5,1,x\n9,6,2,y\n", "s", 4_000_000),
        ("timestamp,input_length,output_length\n1700000000000,5,1\n1700000001500,6,2\n", "ms", 1_500_000),
        ("a,b,c\n10,5,1\n12,6,2\n", "us", 2),
    ],
    ids=lambda value: str(value).partition(",")[0],
)  # fmt: skip
def test_columns_and_units(tmp_path: Path, text: str, unit: str, last: int) -> None:
    told = "arrival=a:us,prompt=b,output=c" if text.startswith("a,") else None
    found = read(tmp_path, text, columns=told)
    assert found.unit == unit
    assert found.traffic.arrival_us.tolist() == [0, last]
    assert found.traffic.prompt.tolist() == [5, 6]
    assert found.traffic.output.tolist() == [1, 2]


def test_hashes_that_are_no_list_of_one_kind_are_one_sentence(tmp_path: Path) -> None:
    """Nulls in one row and numbers in the next are two types to pyarrow, whose parts then do not fit together."""
    rows = [
        {"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [None] * 9},
        {"timestamp": 3000, "input_length": 7322, "output_length": 490, "hash_ids": [0, 14, -1, 16, 17, 18]},
    ]
    with pytest.raises(TraceError, match="`hash_ids` is not of one kind in all rows"):
        read(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "t.jsonl")


def test_hashes_of_json_lines_csv_and_parquet_are_one(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [7, 8]},
        {"timestamp": 3000, "input_length": 1025, "output_length": 0, "hash_ids": [7, 8, 9]},
    ]
    found = read(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "t.jsonl")
    assert found.unit == "ms"
    assert found.traffic.hash_tokens == 512
    assert found.traffic.names(1) == [7, 8, 9]
    assert found.traffic.output.tolist() == [5, 1]
    assert any("one token" in note for note in found.notes)
    text = "timestamp,input_length,output_length,hash_ids\n" + "".join(
        f'{r["timestamp"]},{r["input_length"]},{r["output_length"]},"{r["hash_ids"]}"\n' for r in rows
    )
    words = (
        json.dumps(rows[0] | {"hash_ids": ["x7", "x8"]}) + "\n" + json.dumps(rows[1] | {"hash_ids": ["x7", "x8", "x9"]}) + "\n"
    )
    assert read(tmp_path, words, "words.jsonl").traffic.names(1) == [0, 1, 2]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    for other in (read(tmp_path, text), read_trace(tmp_path / "t.parquet")):
        assert [other.traffic.names(i) for i in (0, 1)] == [found.traffic.names(i) for i in (0, 1)]
        assert other.traffic.arrival_us.tolist() == found.traffic.arrival_us.tolist()


def test_columns_in_memory(tmp_path: Path) -> None:
    columns = {"arrival_s": [0.0, 1.5], "input_tokens": [5, 6], "output_tokens": [1, 2]}
    for source in (columns, pa.table(columns)):
        assert read_trace(source).traffic.arrival_us.tolist() == [0, 1_500_000]
    with pytest.raises(TraceError, match="`the trace`, row 2: `arrival_s` goes back"):
        read_trace(columns | {"arrival_s": [1.0, 0.0]})
    with pytest.raises(TraceError, match="that is no trace"):
        read_trace(7)


def test_a_folder_of_partitions_is_one_trace_or_a_replica_each(tmp_path: Path) -> None:
    for name, arrivals in (("a", [0.0, 2.0]), ("b", [1.0, 3.0])):
        table = pa.table({"arrival_s": arrivals, "input_tokens": [5, 6], "output_tokens": [1, 1], "node": [name, "x"]})
        parquet.write_table(table, tmp_path / f"{name}.parquet")
    found = read_trace(tmp_path)
    assert found.traffic.arrival_us.tolist() == [0, 10**6, 2 * 10**6, 3 * 10**6]
    assert found.route is None
    routed = read_trace(tmp_path, route="partition").route
    assert routed is not None
    assert routed.tolist() == [0, 1, 0, 1]
    by_node = read_trace(tmp_path, route="node")
    assert by_node.routes == ("a", "x", "b")


def test_a_rate_takes_the_place_of_arrivals(tmp_path: Path) -> None:
    text = "input_tokens,output_tokens\n5,1\n6,2\n7,3\n"
    assert read(tmp_path, text, rate=4.0).traffic.arrival_us.tolist() == [0, 250_000, 500_000]
    with pytest.raises(TraceError, match="no column of arrival times") as problem:
        read(tmp_path, text)
    assert "rate" in problem.value.hint


HEAD = "arrival_s,input_tokens,output_tokens\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "1,5,1\n2,5,1\n1.5,5,1\n", "line 4: `arrival_s` goes back"),
        (HEAD + "1,5,1\n2,-5,1\n", "line 3: `input_tokens` is `-5`"),
        (HEAD + "1,5,1\n2,5,1.5\n", "line 3: `output_tokens` is `1.5`"),
        (HEAD + "1,5,1\n-2,5,1\n", "line 3: `arrival_s` is `-2`"),
        (HEAD + "1,5,1\n2,5,1\n3,5", "line 4: 2 fields, where the header has 3"),
        (HEAD + "1,5,1\n2,,1\n", "line 3: `input_tokens` is missing"),
        (HEAD + "1,5,1\n2,many,1\n", "line 3: `input_tokens` is `many`, not a number"),
        (HEAD + "1,5,1\ninf,5,1\n", "line 3: `arrival_s` is `inf`"),
        (HEAD + f"1,5,1\n2,{10**30},1\n", "line 3: `input_tokens` is"),
        (HEAD + "2023-11-16 18:17:03,5,1\nyesterday,6,1\n", "line 3: `arrival_s` is `yesterday`, neither a number nor a date"),
        (HEAD + "0,5,1\n999999999,5,1\n", "line 3: `arrival_s` is more than three years after the first"),
        (HEAD, "holds no requests"),
        ("", "is empty"),
        ("arrival_s,input_tokens\n1,2\n", "line 1: no column of tokens of the outputs"),
        ("when,input_tokens,output_tokens\n1,2,3\n", "line 1: no column of arrival times: the trace has `when`"),
        ("a,a,b\n1,2,3\n", "two columns of one name"),
        (HEAD + "1,5,1\n" + "x" * (limits.TRACE_LINE_BYTES + 10), "line 3: longer than"),
        (HEAD + "1,5,1\n\0\n", "line 3: a NUL byte"),
    ],
    ids=lambda value: value[:40] if " " in value else "",
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TraceError) as problem:
        read(tmp_path, text)
    assert words in str(problem.value)
    assert "`t.csv`" in str(problem.value) or "no column" in str(problem.value)


def test_empty_lines_are_no_requests_and_count_as_lines(tmp_path: Path) -> None:
    assert len(read(tmp_path, HEAD + "1,5,1\n\n2,5,1\n\n").traffic) == 2
    with pytest.raises(TraceError, match="line 5: `input_tokens` is `-5`"):
        read(tmp_path, HEAD + "1,5,1\n\n\n2,-5,1\n")
    with pytest.raises(TraceError, match="`noending`, line 3: `input_tokens` is `-5`"):
        read(tmp_path, HEAD + "1,5,1\n2,-5,1\n", "noending")
    with pytest.raises(TraceError, match=r"`t\.jsonl`, line 3: `input_length` is `-600`"):
        read(tmp_path, ROW + "\n" + ROW.replace("600", "-600"), "t.jsonl")


ROW = '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [7, 8]}\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ROW + ROW[:40], "line 2: no JSON object; a file that was cut off ends so"),
        (ROW + ROW.replace("600", '"600"'), "line 2: `input_length` is of another kind than before"),
        (ROW + ROW.replace("[7, 8]", "[7, null]"), "line 2: `hash_ids` holds something that is no hash"),
        (ROW + ROW.replace("[7, 8]", "[1, 2, 3]"), "line 2: 3 hashes of 512 tokens are more than a prompt of 600 has"),
        (ROW + '{"timestamp": 0, "output_length": 5}\n', "line 2: `input_length` is missing"),
        ("[1, 2]\n", "no column of tokens of the prompts"),
        ("{\n", "line 1: no JSON object"),
    ],
)
def test_bad_json_lines(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TraceError) as problem:
        read(tmp_path, text, "t.jsonl", hash_tokens=512)
    assert words in str(problem.value)


def test_columns_that_are_named_wrongly(tmp_path: Path) -> None:
    text = HEAD + "1,5,1\n"
    with pytest.raises(OptionError, match=r"no column `input_token`") as problem:
        read(tmp_path, text, columns="prompt=input_token")
    assert "input_tokens" in problem.value.hint
    with pytest.raises(OptionError, match="expected something like"):
        read(tmp_path, text, columns="tokens")
    with pytest.raises(OptionError, match="no column `node`"):
        read(tmp_path, text, route="node")
    for rate in (0.0, -1.0, float("nan")):
        with pytest.raises(OptionError, match="requests a second"):
            read(tmp_path, text, rate=rate)


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv", Path("/dev/zero")):
        with pytest.raises(KvplanError):
            read_trace(path)
    (tmp_path / "t.parquet").write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(TraceError, match="no Parquet file"):
        read_trace(tmp_path / "t.parquet")
