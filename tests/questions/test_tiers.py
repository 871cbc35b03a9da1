"""Memory below the GPU as people ask for it: how many tokens and sessions a budget holds, what to type, and the traps."""

import json
from functools import cache
from typing import Any

import pytest
from each import each

import kvplan
from kvplan.cli.app import main
from kvplan.domain.tiers import Tier, TierAsk, Tiers
from kvplan.engines import make_engine
from kvplan.engines.kernel.engine import Prepared
from kvplan.errors import OptionError
from kvplan.loading import load
from kvplan.questions.tiers import below_device, tiers_of

GIB = 2**30
#: One row of the JSON, as the issue and docs/reference/formats.md name it.
PROMISED = {"tier", "budget_bytes", "used_bytes", "tokens", "sessions", "per_rank", "shared", "evidence"}


@cache
def on(engine: str, model: str, **options: Any) -> Prepared:
    return make_engine(engine, options).on(load(model))


def below(engine: str, model: str, ask: TierAsk, **options: Any) -> dict[str, Tier]:
    return {row.tier: row for row in below_device(on(engine, model, **options), ask)}


def asked(gib: int | None = 256, tokens: int = 131_072, **more: Any) -> TierAsk:
    return TierAsk(host_bytes=None if gib is None else gib * GIB, tokens=tokens, **more)


def test_one_connector_keeps_latents_once_and_the_other_on_every_rank() -> None:
    rows = below("vllm", "deepseek-v3", asked(), tensor_parallel=8)
    once, copied = rows["vllm-offload"], rows["vllm-simple-offload"]
    assert (once.tokens, once.kept, once.per_rank_bytes) == (3_904_512, "once", once.used_bytes)
    assert (copied.tokens, copied.kept, copied.per_rank_bytes) == (488_928, "copied", copied.used_bytes // 8)
    found = tiers_of(on("vllm", "deepseek-v3", tensor_parallel=8), asked())
    best = found.best("host")
    assert best is not None
    assert best.tier == "vllm-offload"
    said = next(note for note in found.notes if note.startswith("vllm-offload holds 3,904,512 tokens (one copy for all ranks)"))
    assert "vllm-simple-offload 488,928 (a copy on every rank)" in said


@pytest.mark.parametrize(
    ("options", "tokens"),
    [({"pipeline_parallel_size": 2}, 481_056), ({"decode_context_parallel_size": 8}, 3_911_552)],
    ids=["stages", "context parallelism"],
)
def test_latents_are_not_stored_once_beside_other_parallelism(options: dict[str, int], tokens: int) -> None:
    row = below("vllm", "deepseek-v3", asked(), tensor_parallel=8, **options)["vllm-offload"]
    assert row.tokens == tokens
    assert any("are not stored once for all ranks" in note for note in row.notes)


def test_heads_on_several_ranks_are_stored_by_each() -> None:
    row = below("vllm", "qwen3-next-80b-a3b", asked(), tensor_parallel=4)["vllm-offload"]
    assert "fewer KV heads than ranks: 2 ranks hold each head, and each stores it" in row.notes


def test_stages_that_disagree_are_said() -> None:
    row = below("vllm", "llama-3.1-70b", asked(), pipeline_parallel_size=3)["vllm-offload"]
    assert any("each stage makes room for its own" in note for note in row.notes)


def test_windows_leave_room_for_more_and_lmcache_in_the_worker_keeps_them_whole() -> None:
    rows = below("vllm", "gpt-oss-20b", asked())
    assert rows["vllm-offload"].tokens == 11_173_888
    assert rows["lmcache"].tokens == 256 * GIB // 12_582_912 * 256
    assert rows["lmcache-mp"].tokens == 256 * GIB // 9_437_184 * 256
    assert any("windows are kept in full" in note for note in rows["lmcache"].notes)


def test_hybrids_are_refused_or_take_whole_rows_for_states() -> None:
    rows = below("vllm", "qwen3-next-80b-a3b", asked())
    assert rows["lmcache"].refused == "Failed to promote local KV cache specs to one unified type."
    assert "--chunk-size 576" in rows["lmcache-mp"].flags  # LMCache's own 256 is refused
    assert "must be a multiple of tokens_per_block 576" in rows["lmcache-mp"].notes[0]
    needs = next(note for note in rows["vllm-offload"].notes if "a state takes a whole row" in note)
    # 131,072 tokens are 228 blocks of 576: those, and a row for each of three groups of states; written are all four groups'
    assert "needs 231 rows to come back, and up to 912 are written" in needs


def test_the_connectors_that_a_release_does_not_have_are_refused() -> None:
    rows = below("vllm@0.13.0", "llama-3.1-8b", asked(64))
    assert rows["vllm-offload"].refused == "vLLM has --kv-offloading-size from 0.14 on"
    assert rows["vllm-simple-offload"].refused
    off = below("vllm", "llama-3.1-8b", asked(64), enable_prefix_caching=False)["vllm-simple-offload"]
    assert off.refused == "prefix caching is disabled: the connector switches itself off"


def test_what_is_typed_is_never_more_than_was_given() -> None:
    budget = 256 * 10**9
    rows = below("vllm", "llama-3.1-8b", TierAsk(host_bytes=budget, disk_bytes=2 * 10**12, tokens=4096))
    assert rows["vllm-offload"].flags == "--kv-offloading-size 238.418579"
    assert all(row.budget_bytes <= (budget if row.place == "host" else 2 * 10**12) for row in rows.values())
    assert all(row.used_bytes <= row.budget_bytes for row in rows.values())


def test_more_memory_never_holds_less() -> None:
    for engine, model in (
        ("vllm", "gemma-3-27b"),
        ("sglang", "gpt-oss-20b"),
        ("llama.cpp", "gemma-3-27b"),
        ("mlx-lm", "qwen3-8b"),
    ):
        before: dict[str, int] = {}
        for gib in (8, 64, 65, 500):
            ask = asked(gib, tokens=20_000, device_bytes=30 * GIB)
            found = {name: row.tokens for name, row in below(engine, model, ask).items()}
            assert all(found[name] >= tokens for name, tokens in before.items()), (engine, gib)
            before = found


def test_hicache_is_of_each_rank_and_leaves_the_indexer_out() -> None:
    row = below("sglang", "glm-5", asked(800, device_bytes=40 * GIB), tensor_parallel=8)["hicache"]
    assert row.flags == "--enable-hierarchical-cache --hicache-size 107"  # 800 GiB are 858 GB
    assert (row.kept, row.ranks) == ("copied", 8)
    assert row.beside_bytes > 0.11 * row.used_bytes
    assert any(note.startswith("the indexer's keys lie outside that budget") for note in row.notes)


def test_states_run_out_before_keys() -> None:
    row = below("sglang", "qwen3-next-80b-a3b", asked(256, tokens=1024, device_bytes=40 * GIB))["hicache"]
    assert any("slots of states run out before" in note for note in row.notes)


def test_deepseek_v4_takes_a_ratio_alone() -> None:
    row = below("sglang", "deepseek-v4-flash", asked(256, device_bytes=40 * GIB))["hicache"]
    assert "--hicache-ratio" in row.flags
    assert "--hicache-size" not in row.flags


def test_a_checkpoint_costs_what_llama_server_prints() -> None:
    # unsloth#11073: 149.6 MiB for each of 32 checkpoints of 4 slots, 18.7 GiB in all
    rows = below("llama.cpp", "qwen3.5-27b", asked(64, tokens=32_768, slots=4))
    assert f"{rows['checkpoints'].session_bytes / 32 / 2**20:.1f}" == "149.6"
    assert f"{rows['checkpoints'].beside_bytes / GIB:.1f}" == "18.7"
    assert rows["prompt-cache"].flags == "--cache-ram 65536"
    assert rows["prompt-cache"].sessions_high is not None


def test_plain_models_make_no_checkpoint() -> None:
    rows = below("llama.cpp", "llama-3.1-8b", asked(8, tokens=8192))
    assert list(rows) == ["prompt-cache"]
    # 8 + (4 + 4 streams) + 8,192 cells of 12 bytes + 8 + 32 layers of keys and values, 12 bytes and 2,048 a token
    one = 8 + 8 + 8192 * 12 + 8 + 32 * 2 * (12 + 8192 * 2048)
    assert rows["prompt-cache"].session_bytes == one
    assert rows["prompt-cache"].sessions == 8 * GIB // one


def test_the_mlx_server_keeps_ten_entries_unless_told() -> None:
    row = below("mlx-lm", "llama-3.1-8b", asked(64, tokens=32_768))["prompt-cache"]
    assert row.session_bytes == 32_768 * 32 * 2 * 8 * 128 * 2
    assert row.flags == f"--prompt-cache-size 16 --prompt-cache-bytes {64 * GIB}"
    assert row.notes[0].startswith("--prompt-cache-size is 10 entries where nobody says: 10 sessions")


def test_sessions_that_come_back() -> None:
    fit = kvplan.fit("llama-3.1-8b", "h100-sxm-80gb", host="512GB", sessions="200 at 60k")
    assert isinstance(fit.tiers, Tiers)
    device, native = fit.tiers.rows[:2]
    assert (fit.context, device.tier, native.tier) == (61_440, "gpu", "vllm-offload")
    # 512 GB are 476.837158 GiB: 244,140 chunks of 16 tokens; a session is 3,840 of them
    assert native.tokens == int(476.837158 * GIB) // 2_097_152 * 16
    assert native.sessions == native.tokens // 61_440 == 63
    assert native.returned(61_440, 200) == 63 / 200
    assert device.sessions == fit.batch_size
    assert any("in strict turns" in note for note in fit.tiers.notes)


def test_replicas_have_tiers_of_their_own() -> None:
    fit = kvplan.fit("llama-3.1-8b", "h100-sxm-80gb:2", tensor_parallel=1, host="64GiB", context="32k")
    assert fit.tiers is not None
    assert "budgets are of one of 2 servers (or data ranks), each with tiers of its own" in fit.tiers.notes


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


RESERVE = ("reserve", "llama-3.1-8b", "--memory", "40GiB")


def test_json_and_csv_have_a_row_a_tier(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *RESERVE, "--host", "256GiB", "--disk", "2TB", "-f", "json")
    tiers = json.loads(out)["pools"][0]["tiers"]
    assert code == 0
    assert all(row.keys() >= PROMISED for row in tiers["rows"])
    assert [row["tier"] for row in tiers["rows"]][:3] == ["gpu", "vllm-offload", "vllm-offload-fs"]
    _, out, _ = run(capsys, *RESERVE, "--host", "256GiB", "-f", "csv")
    lines = out.splitlines()
    assert lines[0].startswith("model,engine,engine_version,tier,place,budget_bytes")
    assert lines[2].startswith("llama-3.1-8b,vllm,0.33.0,vllm-offload,host,274877906944,274877906944,2097152,16,")


def test_the_table_fits_eighty_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(capsys, *RESERVE, "--host", "256GB", "--sessions", "200 at 60k")
    shown = out[out.index("below the GPU, sessions of 60k tokens") :]
    assert code == 0
    rows = shown.partition("to type")[0].splitlines()
    assert max(map(len, rows)) <= 80
    native = next(row for row in rows if "vllm-offload" in row)
    assert native.startswith("->")
    assert "1,953,120" in native
    assert "16%" in native
    assert "  vllm-offload: --kv-offloading-size 238.418579\n" in shown


WRONG = [
    (("--host", "256"), "--host: expected a size with its unit, got `256`"),
    (("--disk", "-2TB"), "--disk: expected a size with its unit"),
    (("--sessions", "200"), "--sessions: expected something like `200 at 60k`, got `200`"),
    (("--sessions", "0 at 60k"), "--sessions: expected a whole number of at least 1"),
    (("--sessions", "5 at minus one"), "--sessions tokens: expected a whole number of at least 1"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_wrong_input_is_one_sentence(arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *RESERVE, *arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_sessions_longer_than_the_context_are_a_contradiction() -> None:
    with pytest.raises(OptionError, match="61,440 tokens are more than"):
        kvplan.fit("llama-3.1-8b", "h100-sxm-80gb", context="8k", host="10GB", sessions="5 at 60k")


def test_an_engine_without_tiers_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("fit", "llama-3.1-8b", "-e", "transformers", "--gpu", "h100-sxm-80gb", "--host", "64GB", "-s", "8k")
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "kvplan knows no tier of transformers below the device" in out


def test_a_command_to_paste_asks_for_the_same_tiers() -> None:
    fit = kvplan.fit("llama-3.1-8b", "h100-sxm-80gb", host="64GiB", sessions="5 at 8k", batch_size=8, context="128k")
    assert not fit.fits
    assert fit.fixes
    assert all("--host 64GiB --sessions '5 at 8k'" in fix.command for fix in fit.fixes)


def test_refusals_are_said_in_the_engines_words(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "reserve", "qwen3-next-80b-a3b", "--memory", "40GiB", "--host", "256GiB", "-f", "markdown")
    assert code == 0
    assert "lmcache, kvbm are refused: Failed to promote local KV cache specs to one unified type." in out


# What options tell.

MULTI = {
    "kv_connector": "MultiConnector",
    "kv_connector_extra_config": {
        "connectors": [
            {"kv_connector": "OffloadingConnector", "kv_connector_extra_config": {"cpu_bytes_to_use": 10**11, "block_size": 33}},
            {"kv_connector": "SimpleCPUOffloadConnector", "kv_connector_extra_config": {"cpu_bytes_to_use_per_rank": 10**10}},
        ]
    },
}
SIMPLE_DISK = {
    "kv_connector": "SimpleCPUOffloadConnector",
    "kv_connector_extra_config": {"kv_offload_backend": "disk", "disk_capacity_bytes": 10**12, "num_cpu_blocks": 1000},
}
LMCACHE = {"kv_connector": "LMCacheConnectorV1"}
#: Engine and its options -> tier, and tokens that it holds of Llama 3.1 8B: 131,072 bytes of each, 16 of them a block.
TOLD: list[tuple[str, dict[str, Any], dict[str, int]]] = [
    ("vllm", {"kv_offloading_size": 100.0}, {"vllm-offload": 100 * GIB // 2_097_152 * 16}),
    (
        "vllm",
        {"kv_offloading_size": 100.0, "use_simple_kv_offload": True},
        {"vllm-simple-offload": (100 * GIB // 2_097_152 - 1) * 16},
    ),
    ("vllm", {"kv_offloading_size": 100.0, "kv_offloading_backend": "lmcache"}, {"lmcache-mp": 0}),  # the size is ignored
    ("vllm", {"kv_transfer_config": json.dumps(SIMPLE_DISK)}, {"vllm-simple-disk": 999 * 16}),
    ("vllm", {"kv_transfer_config": json.dumps(LMCACHE)}, {"lmcache": 5 * GIB // 33_554_432 * 256}),
    (
        "vllm",
        {"kv_transfer_config": json.dumps(LMCACHE), "lmcache_local_cpu": False, "lmcache_max_local_disk_size": 50.0},
        {"lmcache-disk": 50 * GIB // 33_554_432 * 256},
    ),
    (
        "vllm",
        {"kv_transfer_config": json.dumps(MULTI)},
        {"vllm-offload": 0, "vllm-simple-offload": (10**10 // 2_097_152 - 1) * 16},
    ),
    ("vllm", {"dyn_kvbm_cpu_cache_gb": 100.0}, {"kvbm": 10**11 // 2_097_152 * 16}),
    ("sglang", {"enable_hierarchical_cache": True, "hicache_size": 100}, {"hicache": 10**11 // 131_072 + 1}),
    ("sglang", {"enable_hierarchical_cache": True, "hicache_ratio": 3.0}, {"hicache": 245_760 * 3 + 1}),
    ("sglang", {"hicache_size": 100}, {}),  # not switched on
    ("llama.cpp", {"cache_ram": 4096}, {"prompt-cache": 3 * 8192}),
    ("llama.cpp", {"cache_ram": 0}, {}),
    ("mlx-lm", {"prompt_cache_bytes": 10**11}, {"prompt-cache": 10 * 8192}),
]


@each(("engine", "options", "tokens"), TOLD, ids=[f"{engine} {options}" for engine, options, _ in TOLD])
def test_options_tell_tiers(engine: str, options: dict[str, Any], tokens: dict[str, int]) -> None:
    rows = below(engine, "llama-3.1-8b", TierAsk(tokens=8192, device_bytes=30 * GIB), **options)
    found = {name: row.tokens for name, row in rows.items() if name != "checkpoints"}
    assert found == tokens
    assert not any(row.flags for row in rows.values())


def test_a_connector_without_groups_takes_room_on_the_gpu() -> None:
    plain, held = (on("vllm", "gpt-oss-20b", **more) for more in ({}, {"kv_transfer_config": json.dumps(LMCACHE)}))
    pools = [prepared.largest_pool(20 * GIB) for prepared in (plain, held)]
    assert pools[0] is not None
    assert pools[1] is not None
    assert pools[0].num_tokens > 1.5 * pools[1].num_tokens


def test_a_receipt_shows_what_the_options_ask_of_the_host(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("receipt", "llama-3.1-8b", "--gpu", "h100-sxm-80gb", "--set", "kv_offloading_size=100")
    code, out, _ = run(capsys, *words, "-f", "json")
    rows = json.loads(out)["receipts"][0]["tiers"]["rows"]
    assert code == 0
    assert [(row["tier"], row["tokens"]) for row in rows][1:] == [("vllm-offload", 819_200)]
    _, out, _ = run(capsys, *words)
    assert "below the GPU, sessions of 128k tokens" in out
    assert "to type" not in out


NOT_TAKEN = [
    ("vllm", {"kv_transfer_config": "{"}, "expected a JSON object with `kv_connector`"),
    ("vllm", {"kv_transfer_config": "[" * 100_000}, "expected a JSON object with `kv_connector`"),
    ("vllm", {"kv_transfer_config": "[]"}, "expected a JSON object with `kv_connector`"),
    ("vllm", {"kv_transfer_config": '{"kv_connector": 7}'}, "expected a JSON object with `kv_connector`"),
    ("vllm", {"kv_offloading_size": "nan"}, "kv_offloading_size"),
    ("vllm", {"kv_offloading_size": "-1"}, "must be above 0"),
    ("vllm", {"kv_offloading_backend": "pigeons"}, "unknown value `pigeons`"),
    ("vllm", {"lmcache_chunk_size": "0"}, "must be from 1 to"),
    ("sglang", {"hicache_size": "-3"}, "must be 0 or more"),
    ("sglang", {"host_free_bytes": "0"}, "host_free_bytes"),
    ("llama.cpp", {"cache_ram": "-2"}, "must be from -1 to"),
    ("mlx-lm", {"prompt_cache_bytes": "0"}, "must be from 1 to"),
]


@each(("engine", "options", "words"), NOT_TAKEN, ids=[words for _, _, words in NOT_TAKEN])
def test_options_that_are_none_are_refused(engine: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        make_engine(engine, options)


def checked(*words: str, **variables: str) -> dict[str, Tier]:
    """The tiers of a pasted command line below its device."""
    (one,) = kvplan.check(command=words, variables=variables, gpu="h100").servers
    assert one.outcome.tiers is not None
    return {row.tier: row for row in one.outcome.tiers.rows if row.place != "device"}


def test_a_pasted_command_line_tells_its_tiers() -> None:
    serve = ("vllm", "serve", "Qwen/Qwen3-14B", "--max-model-len", "32768")
    assert checked(*serve, "--kv-offloading-size", "100")["vllm-offload"].budget_bytes == 100 * GIB
    worker = '{"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}'
    assert checked(*serve, "--kv-transfer-config", worker)["lmcache"].budget_bytes == 5 * GIB
    sized = checked(*serve, "--kv-transfer-config", worker, LMCACHE_MAX_LOCAL_CPU_SIZE="20", LMCACHE_MAX_LOCAL_DISK_SIZE="50")
    assert {name: row.budget_bytes for name, row in sized.items()} == {"lmcache": 20 * GIB, "lmcache-disk": 50 * GIB}
    own = worker[:-1] + ', "kv_connector_extra_config": {"lmcache.max_local_cpu_size": 40, "lmcache.chunk_size": 512}}'
    row = checked(*serve, "--kv-transfer-config", own, LMCACHE_MAX_LOCAL_CPU_SIZE="20")["lmcache"]
    assert (row.budget_bytes, row.tokens % 512) == (40 * GIB, 0)  # what the connector is told wins
    block = '{"kv_connector": "DynamoConnector", "kv_role": "kv_both"}'
    kvbm = checked(*serve, "--kv-transfer-config", block, DYN_KVBM_CPU_CACHE_GB="20")["kvbm"]
    assert 20 * 10**9 - GIB < kvbm.budget_bytes <= 20 * 10**9
    llama = ("llama-server", "-hf", "Qwen/Qwen3-14B-GGUF:Q4_K_M", "-c", "8192", "--cache-ram", "4096")
    assert checked(*llama)["prompt-cache"].budget_bytes == 4 * GIB


def test_a_variable_without_a_value_leaves_the_gpu_decided(capsys: pytest.CaptureFixture[str]) -> None:
    connector = """'{"kv_connector":"LMCacheConnectorV1","kv_role":"kv_both"}'"""
    variables = "LMCACHE_MAX_LOCAL_CPU_SIZE=$SIZE LMCACHE_CONFIG_FILE=/etc/lmcache.yaml"
    text = f"export {variables}\nvllm serve Qwen/Qwen3-14B --kv-transfer-config {connector}\n"
    (one,) = kvplan.check(text=text, gpu="h100").servers
    assert one.outcome.status == "starts"
    (said,) = (note for note in one.notes if note.startswith("not counted: "))
    assert "LMCACHE_CONFIG_FILE" in said
    assert "LMCACHE_MAX_LOCAL_CPU_SIZE" in said
    assert main(["check", "--gpu", "h100", "--", "vllm", "serve", "Qwen/Qwen3-14B", "--kv-offloading-size", "100"]) == 0
    assert "below the GPU" in capsys.readouterr().out


def test_a_transfer_config_without_a_connector_is_none() -> None:
    for text in ("{}", '{"kv_connector": null}'):
        assert below("vllm", "llama-3.1-8b", asked(None), kv_transfer_config=text) == {}


def test_checkpoints_stay_without_a_prompt_cache() -> None:
    told = TierAsk(tokens=32_768, slots=4)
    none = below("llama.cpp", "qwen3.5-27b", told, cache_ram=0)
    assert list(none) == ["checkpoints"]
    assert none["checkpoints"].beside_bytes == 4 * 32 * 156_894_364
    assert "no limit is set" in below("llama.cpp", "qwen3.5-27b", told, cache_ram=-1)["prompt-cache"].refused
    assert below("llama.cpp", "qwen3.5-27b", told, cache_ram=0, ctx_checkpoints=0) == {}
