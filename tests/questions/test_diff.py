"""`kvplan diff`: what releases, dtypes and files change, by which rule, and how a rule is told to make the difference."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan.cli.app import main
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.engines.kernel.releases import Asked, Watched, by_type, quirk
from kvplan.errors import OptionError
from kvplan.loading import load
from kvplan.questions.diff import of_engines
from kvplan.questions.estimate import predict
from kvplan.report.answers.diff import CSV_COLUMNS

HYBRID, WINDOWED, PLAIN = "qwen3.5-9b", "deepseek-v4-flash", "llama-3.1-8b"


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["diff", *args])
    return code, *capsys.readouterr()


def answer(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(capsys, *args, "-f", "json")[1])["diff"][0]
    return found


# Rules.


RULE = quirk(((0,), 1, "a.py"), ((0, 5), 2, "b.py"), says="a rule")
TYPED = by_type(0, {("acme",): (((0, 5), 7, "c.py"),)})


def test_a_watched_release_answers_as_itself_and_notes_what_was_asked() -> None:
    release = Watched((0, 6), (0, 4))
    assert (RULE.at(release), TYPED.at("acme", release), TYPED.at("other", release)) == (2, 7, 0)
    assert [a.rule for a in release.asked.values()] == [RULE, TYPED, TYPED]
    assert release.differing == (Asked(RULE, ""), Asked(TYPED, "acme"))  # a type that has no row has no other value
    assert release > (0, 5)


def test_a_held_rule_is_as_in_the_other_release_and_the_rest_is_not() -> None:
    release = Watched((0, 6), (0, 4), (Asked(TYPED, "acme"),))
    assert (RULE.at(release), TYPED.at("acme", release)) == (2, 0)


def test_a_watched_release_is_taken_for_no_other() -> None:
    one = Watched((0, 6), (0, 4))
    assert one == one
    assert one != (0, 6)
    assert one != Watched((0, 6), (0, 4))
    assert len({one, Watched((0, 6), (0, 4)), (0, 6)}) == 3


# Releases.


def test_an_upgrade_names_hybrids_and_windowed_models_with_the_rule_and_its_source() -> None:
    found = kvplan.diff("vllm@0.26", "vllm@0.33", [HYBRID, WINDOWED, PLAIN])
    assert {change.model.name for change in found.changes} == {HYBRID, WINDOWED}
    assert found.same == 1
    hybrid, windowed = found.changes
    assert [cause.source for cause in hybrid.causes] == [
        "vllm/model_executor/layers/mamba/gdn/qwen_gdn_linear_attn.py:get_kv_cache_spec, 0.33.0"
    ]
    assert hybrid.causes[0].without == hybrid.before  # one rule alone makes the whole difference
    assert "windows" in windowed.causes[0].rule


def test_the_figures_are_those_of_estimate() -> None:
    found = kvplan.diff("vllm@0.25", "vllm@0.26", "gemma-3-27b", seq_len="64k")
    (change,) = found.changes
    for version, figure in (("0.25", change.before), ("0.26", change.after)):
        engine = make_engine(f"vllm@{version}", {"max_model_len": 65536})
        said = predict(engine, load("gemma-3-27b"), Workload(seq_len=65536))
        assert isinstance(said, kvplan.Allocation)
        assert figure.total_bytes == said.total_bytes
    assert "every batch in flight" in change.causes[0].rule


def test_several_rules_each_have_their_own_part() -> None:
    (change,) = kvplan.diff("vllm@0.26", "vllm@0.33", "granite-4.0-h-small").changes
    without = [cause.without.total_bytes for cause in change.causes if cause.without is not None]
    assert len(without) == 2
    assert all(part not in {None, change.after.total_bytes} for part in without)


def test_a_rule_of_a_model_type_is_named_too() -> None:
    (change,) = kvplan.diff("transformers@5.14", "transformers@5.15", "deepseek-v3").changes
    assert change.causes[0].rule.startswith("latent attention")
    assert (change.causes[0].was, change.causes[0].now) == ("no", "yes")


def test_a_model_that_the_earlier_release_does_not_serve_is_a_change() -> None:
    (change,) = kvplan.diff("transformers@5.10", "transformers@5.24", "kimi-linear-48b-a3b").changes
    assert change.before.total_bytes is None
    assert "kimi_linear" in change.before.refused


def test_the_same_release_changes_nothing_and_says_so_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "vllm@0.33", "vllm@0.33", HYBRID, PLAIN)
    assert code == 0
    assert out.startswith("UNCHANGED")
    assert answer(capsys, "vllm@0.33", "vllm", HYBRID)["changes"] == []


def test_a_release_that_nobody_read_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "vllm@99", "vllm", "llama-3.1-8b"]) == 0
    assert "vllm 99 is newer than" in capsys.readouterr().out


def test_without_models_it_is_the_catalogue(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("kvplan.loading.catalogue.names", lambda: (HYBRID, PLAIN))
    found = answer(capsys, "vllm@0.26", "vllm@0.33", "-q")
    assert ([c["model"] for c in found["changes"]], found["same"]) == ([HYBRID], 1)


def test_an_engine_of_one_release_says_that_it_does_not_know() -> None:
    with pytest.raises(OptionError, match="not known"):
        of_engines("mlx-lm@0.31", "mlx-lm@0.32.2", [load(PLAIN)], Workload(seq_len=64))
    assert not of_engines("mlx-lm", "mlx-lm", [load(PLAIN)], Workload(seq_len=64)).changed


# Dtypes and files.


def test_a_dtype_halves_the_cache_and_doubles_the_requests() -> None:
    (change,) = kvplan.diff("bf16", "fp8", PLAIN, of="kv-dtype", engine="vllm").changes
    assert change.after.total_bytes is not None
    assert change.before.total_bytes == 2 * change.after.total_bytes
    assert change.causes[0].was == "bfloat16: 16 bits"
    assert change.causes[0].source.startswith("vLLM v1/kv_cache_interface.py")


def test_two_files_name_the_keys_that_make_the_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = {"model_type": "llama", "num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 512, "vocab_size": 100}
    new = {**old, "num_key_value_heads": 2, "num_hidden_layers": 5, "rope_theta": 1e6}
    for name, config in (("old", old), ("new", new)):
        (tmp_path / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
    files = [str(tmp_path / f"{name}.json") for name in ("old", "new")]
    found = answer(capsys, *files, "--of", "model", "-e", "ideal,vllm")
    assert [change["engine"] for change in found["changes"]] == ["ideal", "vllm"]
    causes = {cause["rule"]: (cause["was"], cause["now"]) for cause in found["changes"][0]["causes"]}
    assert causes == {"`num_hidden_layers`": ("4", "5"), "`num_key_value_heads`": ("absent", "2")}
    assert run(capsys, files[0], files[0], "--of", "model")[0] == 0


# What is shown.


def test_the_table_fits_80_columns_and_lists_each_rule_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(capsys, "vllm@0.26", "vllm@0.33", HYBRID, "qwen3.5-4b", PLAIN)
    assert code == 1
    assert out.startswith("CHANGED vllm@0.26 -> vllm@0.33 · 1 x 8,192 tokens: 2 of 3 models")
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("a further block") == 1
    assert "+19.0%" in out


def test_csv_has_a_row_for_each_model_and_rule(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "vllm@0.26", "vllm@0.33", HYBRID, "granite-4.0-h-small", "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["model"] for row in rows] == [HYBRID, "granite-4.0-h-small", "granite-4.0-h-small"]
    assert rows[0]["before_bytes"] == "380633088"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("vllm", "sglang"), "two engines"),
        (("vllm@0.26", "vllm@x"), "engine version"),
        (("vllm@0.26", "vllm@b6150"), "vllm has no builds"),
        (("vllm@0.26", "vllm", "--of", "dtype"), "--of must be one of engine, kv-dtype, model"),
        (("bf16", "fp8", "--of", "kv-dtype"), "in an engine"),
        (("bf16", "fp9", "--of", "kv-dtype", "-e", "vllm"), "fp9"),
        (("vllm@0.26", "vllm", "-e", "vllm"), "engines already"),
        (("vllm@0.26", "vllm", "--budget", "-3"), "size"),
        (("llama-3.1-8b", "no-such-model", "--of", "model"), "no-such-model"),
        (("llama-3.1-8b", "gemma-3-4b", "mistral-7b", "--of", "model"), "no other models"),
        (("vllm@0.26", "vllm", "--set", "nonsense=1"), "nonsense"),
        (("vllm@0.26",), "needs B"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(args: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *args)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert words in err
