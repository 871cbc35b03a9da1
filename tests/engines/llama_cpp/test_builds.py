"""What changed between builds: eras worked out by hand from the commits that made them; the newest row is llama.cpp."""

from itertools import pairwise
from typing import Any

import pytest
from each import each
from golden import cases

from kvplan import diff, estimate, load
from kvplan.cli.app import main
from kvplan.engines.kernel.releases import parse_version, written
from kvplan.engines.llama_cpp.audit.log import judge_log
from kvplan.engines.llama_cpp.builds import COUNTED, FIRST, LATEST, SINCE, build, unknown
from kvplan.engines.llama_cpp.context import Context, Refusal, make_context
from kvplan.engines.llama_cpp.convert import gguf_keys
from kvplan.engines.llama_cpp.memory import Params
from kvplan.engines.llama_cpp.releases import GATES, HIDDEN, MASK_BYTES, OUTPUTS_LIMITED, between
from kvplan.errors import OptionError, Refused
from kvplan.gguf.hparams import Hparams, read_hparams

RECORDED = [case for case in cases("llama_cpp") if "python_kwargs" not in case["options"]]
GEMMA, QWEN, GRANITE, DEEPSEEK = "gemma-3-12b", "qwen3-8b", "granite-4.0-h-small", "deepseek-v3"


def hparams(name: str) -> Hparams:
    return read_hparams(gguf_keys(load(name)))


def context(name: str, number: int, **changes: Any) -> Context[int] | Refusal:
    given = {"n_ctx": 5000, "n_seq_max": 1, "release": build(number)} | changes
    return make_context(hparams(name), Params(**given))


def cells(name: str, number: int, **changes: Any) -> tuple[tuple[int, int], ...]:
    made = context(name, number, **changes)
    assert isinstance(made, Context), made
    return tuple((part.cells, part.streams) for part in made.parts if part.name != "recr")


OFF, APART = {"flash_attn": "off"}, {"n_seq_max": 3}
ONE_POOL = {"n_seq_max": 4, "kv_unified": True, "n_ctx": 32_768, **OFF}
ERAS: tuple[tuple[str, int, dict[str, Any], tuple[tuple[int, int], ...]], ...] = (
    # cells of a context of 5,000: as asked for, then rounded to 32, 256, 32 without flash attention, not at all, 256
    (QWEN, 2492, OFF, ((5000, 1),)),
    (QWEN, 2493, OFF, ((5024, 1),)),
    (QWEN, 2771, OFF, ((5120, 1),)),
    (QWEN, 2871, OFF, ((5024, 1),)),
    (QWEN, 2871, {}, ((5120, 1),)),
    (QWEN, 6867, OFF, ((5024, 1),)),
    (QWEN, 6868, {}, ((5000, 1),)),
    (QWEN, 6974, OFF, ((5000, 1),)),
    (QWEN, 6975, OFF, ((5120, 1),)),
    # three sequences: divided up, then down
    (QWEN, 6867, APART, ((1792, 3),)),
    (QWEN, 6924, APART, ((1667, 3),)),
    (QWEN, 6925, APART, ((1666, 3),)),
    (QWEN, 6975, APART, ((1792, 3),)),
    # windows of 1,024: whole, beside a batch, beside a micro-batch; of all sequences where they share one pool
    (GEMMA, 5428, {"n_ctx": 32_768, **OFF}, ((32_768, 1),)),
    (GEMMA, 5429, {"n_ctx": 32_768, **OFF}, ((32_768, 1), (3072, 1))),
    (GEMMA, 5554, {"n_ctx": 32_768, **OFF}, ((32_768, 1), (1536, 1))),
    (GEMMA, 5554, ONE_POOL, ((32_768, 1), (4608, 1))),
    (GEMMA, 6900, {"n_ctx": 1600, "n_ubatch": 100}, ((1600, 1), (1124, 1))),
    (GEMMA, 6975, {"n_ctx": 1600, "n_ubatch": 100}, ((1792, 1), (1280, 1))),
    # hybrids: one pool, then a whole context for each sequence, then its part
    (GRANITE, 6078, {"n_ctx": 8192, "n_seq_max": 4}, ((8192, 1),)),
    (GRANITE, 6079, {"n_ctx": 8192, "n_seq_max": 4}, ((8192, 4),)),
    (GRANITE, 8024, {"n_ctx": 8192, "n_seq_max": 4}, ((8192, 4),)),
    (GRANITE, 8025, {"n_ctx": 8192, "n_seq_max": 4}, ((2048, 4),)),
    # a batch has at least as many tokens as the mask is padded to
    (GEMMA, 5500, {"n_ctx": 32_768, "n_batch": 8, **OFF}, ((32_768, 1), (1088, 1))),
)  # fmt: skip


@each("name, number, changes, expected", ERAS, ids=[f"{name}@b{number}/{i}" for i, (name, number, *_) in enumerate(ERAS)])
def test_cells_by_era(name: str, number: int, changes: dict[str, Any], expected: tuple[tuple[int, int], ...]) -> None:
    assert cells(name, number, **changes) == expected


def test_rows_by_era() -> None:
    """Latents kept twice, windows that were not quantised for eleven builds, values as long as the longest."""
    sizes = {n: context(DEEPSEEK, n, n_ctx=256).v_bytes for n in (7831, 7832)}  # type: ignore[union-attr]
    assert sizes == {7831: 61 * 256 * 512 * 2, 7832: 0}
    kinds = {
        n: [{t.type for t in part.tensors} for part in context(GEMMA, n, type_k="q8_0", type_v="q8_0").parts]  # type: ignore[union-attr]
        for n in (8632, 8633, 8643, 8644)
    }
    q8, f16 = {"q8_0"}, {"f16"}
    assert kinds == {8632: [q8, q8], 8633: [q8, f16], 8643: [q8, f16], 8644: [q8, q8]}
    rows = next(read_hparams(case["config"]) for case in RECORDED if case["config"].get("general.architecture") == "deci")
    made = [make_context(rows, Params(n_ctx=256, n_seq_max=1, flash_attn="off", release=build(n))) for n in (5912, 5913)]
    own = sum(rows.n_embd_v(i) for i in range(rows.n_layer))
    widest = max(rows.n_embd_v(i) for i in range(rows.n_layer))
    assert [each.v_bytes for each in made] == [256 * 2 * own, 256 * 2 * widest * rows.n_layer]  # type: ignore[union-attr]
    assert isinstance(context(QWEN, 6506, n_seq_max=65), Refusal)
    assert isinstance(context(QWEN, 6507, n_seq_max=65), Context)


@each("case", RECORDED[::7], ids=[case["id"] for case in RECORDED[::7]])
def test_the_newest_row_is_llama_cpp(case: dict[str, Any]) -> None:
    """A build after all rows is the studied commit, whatever was asked."""
    h = read_hparams(case["config"])
    given = {name: value for name, value in case["options"].items() if name != "offload_kqv"}
    assert make_context(h, Params(**given, release=build(COUNTED))) == make_context(h, Params(**given))
    assert unknown(h, LATEST, mtp=True, rollback=True, flash=True) == ""


def test_what_was_before_the_builds_and_between_them_and_the_releases_is_said() -> None:
    said = [
        unknown(read_hparams(RECORDED[0]["config"]), r, mtp=False, rollback=False, flash=False) for r in (build(99), (0, 4, 0))
    ]
    between = "the builds from b1041 and the releases from 0.5.0 on are written down, not 0.4.0"
    assert said == ["builds before b1041 read no GGUF files", between]


def test_a_front_end_of_an_older_build_asks_for_less() -> None:
    old, new = (estimate(QWEN, engine=f"llama.cpp@b{n}", seq_len=4096, parallel=-1) for n in (6924, 6925))
    assert (old.facts.n_seq_max, old.facts.kv_unified) == (1, False)
    assert (new.facts.n_seq_max, new.facts.kv_unified) == (4, True)
    assert [estimate(QWEN, engine=f"llama.cpp@b{n}", seq_len=4096).facts.flash_attn for n in (6324, 6325)] == [False, True]
    many = estimate(QWEN, engine="llama.cpp@b6070", seq_len=4096, batch_size=2)
    assert many.facts.kv_unified
    assert not estimate(QWEN, engine="llama.cpp@b6071", seq_len=4096, batch_size=2).facts.kv_unified


NO = (
    ("llama.cpp@b900", QWEN, {}, "read no GGUF"),
    ("llama.cpp@b5000", QWEN, {}, "b5000 does not know qwen3: from b5092 on"),
    ("llama.cpp@b7215", "ministral-3-8b", {}, "b7215 does not know mistral3: from b7216 on"),
    ("llama.cpp@b9000", "qwen3.5-9b", {}, "prediction layers aside: from b9180 on"),
    ("llama.cpp@b9000", "granite-4.0-h-small", {"n_rs_seq": 2}, "b9000 keeps no states to roll back to"),
    ("llama.cpp@b2700", "llama-3.1-8b", {"flash_attn": "on"}, "b2700 has no flash attention"),
    ("llama.cpp@b5000", DEEPSEEK, {}, "b5000 does not read latents"),
    ("llama.cpp@b5430", "phi-3-mini-4k", {}, "slid Phi-3's window"),
)


@each("engine, model, options, words", NO, ids=[f"{engine}/{model}" for engine, model, *_ in NO])
def test_what_a_build_cannot_is_one_sentence(engine: str, model: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        estimate(model, engine=engine, seq_len=4096, **options)


def test_a_converter_wrote_another_architecture_before_there_was_one() -> None:
    """Mistral Small 3.1 was a `llama` until b7216 named `mistral3`; its cache is the same."""
    old, new = (estimate("mistral-small-3.1-24b", engine=f"llama.cpp@b{n}", seq_len=4096) for n in (7215, 7216))
    assert old.total_bytes == new.total_bytes == 40 * 4096 * 4096


def test_diff_names_the_rule() -> None:
    found = diff("llama.cpp@b5300", "llama.cpp", [GEMMA], seq_len=32_768)
    (change,) = found.changes
    assert change.before.total_bytes == 48 * 32_768 * 8192
    assert change.after.total_bytes == (40 * 1536 + 8 * 32_768) * 8192
    assert any("#13833" in cause.source for cause in change.causes)


def test_a_log_is_held_against_its_builds_rules() -> None:
    """The same lines are exact of the build that they name, and differ of another."""
    lines = [
        "build: 5554 (abcdef12) with cc",
        "llama_context: n_ctx         = 32768",
        "llama_context: flash_attn    = 0",
        "llama_kv_cache_unified: size = 2048.00 MiB ( 32768 cells,   8 layers,  1 seqs), "
        "K (f16): 1024.00 MiB, V (f16): 1024.00 MiB",
        "llama_kv_cache_unified: size =  480.00 MiB (  1536 cells,  40 layers,  1 seqs), "
        "K (f16):  240.00 MiB, V (f16):  240.00 MiB",
    ]
    assert [result.status for result in judge_log("x", lines, load(GEMMA))] == ["exact"]
    other = [lines[0].replace("5554", "5429"), *lines[1:]]
    assert [result.status for result in judge_log("x", other, load(GEMMA))] == ["differs"]


def test_builds_are_releases() -> None:
    assert [parse_version(text) for text in ("b6150", " b6150 ", "b6150-abcdef1", "0.0.6150")] == [build(6150)] * 4
    assert (written(build(6150)), written((0, 5, 0))) == ("b6150", "0.5.0")
    for text in ("b", "b12", "b1234567", "bx", "b-6150"):
        with pytest.raises(OptionError):
            parse_version(text)
    assert all(FIRST < number <= COUNTED for number in SINCE.values())
    assert list(SINCE.values()) == sorted(SINCE.values())


def test_a_date_is_the_builds_that_it_may_be() -> None:
    assert between("llama.cpp b8179") == (build(8179), build(8179))
    assert between("llama.cpp (2026-03)") == (build(7900), build(8606))
    assert between("llama.cpp (Ollama, 2026-08)") == (build(6050), LATEST)
    assert between("llama.cpp (2026)") == (build(7213), LATEST)
    months = [between(f"({year}-{month:02})")[0] for year in range(2023, 2027) for month in range(1, 13)]
    assert all(a <= b for a, b in pairwise(months))


def test_masks_hidden_states_and_outputs_change_at_their_commits() -> None:
    rows = ((MASK_BYTES, 9410, 4, 2), (HIDDEN, 7819, 1, 2), (GATES, 5776, 2, 3))
    assert all((rule.at(build(at - 1)), rule.at(build(at))) == (was, now) for rule, at, was, now in rows)
    assert [OUTPUTS_LIMITED.at(build(number)) for number in (9459, 9460)] == [False, True]


def test_the_command_line_of_a_build(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", GEMMA, "-e", "llama.cpp@b6150", "-s", "32k", "--set", "flash_attn=on"]) == 0
    out, err = capsys.readouterr()
    assert "llama.cpp b6150" in out
    assert " -fa " not in f"{err} {out}".replace("-fa\n", "").replace("-fa on", " -fa ")
    assert "not known" not in err
    assert main(["estimate", GEMMA, "-e", "llama.cpp@bogus", "-s", "32k"]) != 0
