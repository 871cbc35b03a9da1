"""llama.cpp's contexts against every recorded one, and the laws that they obey."""

from typing import Any

import pytest
from each import each
from golden import cases
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from kvplan.engines.llama_cpp.context import Context, Refusal, make_context
from kvplan.engines.llama_cpp.memory import CACHE_TYPES, Params, pad
from kvplan.errors import GgufError
from kvplan.gguf.hparams import read_hparams
from kvplan.gguf.known import SWA

CASES = cases("llama_cpp")
API = [case for case in CASES if "python_kwargs" not in case["options"]]
CONFIGS = list({case["model"]: case["config"] for case in API}.values())


def recorded_params(options: dict[str, Any], **changes: Any) -> Params[int]:
    return Params(**{name: value for name, value in options.items() if name != "offload_kqv"} | changes)


def made(config: dict[str, Any], **changes: Any) -> Context[int]:
    context = make_context(read_hparams(config), Params(**{"n_ctx": 4096, "n_seq_max": 1} | changes))
    assert isinstance(context, Context)
    return context


def test_there_are_cases() -> None:
    assert len(API) == 613
    assert sum(not case["expected"]["ok"] for case in API) == 5


@each("case", API, ids=[case["id"] for case in API])
def test_every_recorded_context_is_exact(case: dict[str, Any]) -> None:
    expected = case["expected"]
    context = make_context(read_hparams(case["config"]), recorded_params(case["options"]))
    if not expected["ok"]:
        assert isinstance(context, Refusal)
        assert any(context.message in line for line in expected["error"])
        return
    assert isinstance(context, Context)
    names = ("n_ctx", "n_ctx_seq", "n_seq_max", "n_batch", "n_ubatch", "n_rs_seq", "output_buffer_bytes")
    totals = ("total_bytes", "k_bytes", "v_bytes", "state_bytes")
    assert {n: getattr(context, n) for n in (*names, *totals)} == {n: expected[n] for n in (*names, *totals)}
    assert [part.name for part in context.parts] == [part["name"] for part in expected["parts"]]
    for part, recorded in zip(context.parts, expected["parts"], strict=True):
        if recorded["kind"] == "dsv4_state":
            assert (part.sum("state"), part.n_layers, part.cells) == (
                recorded["bytes"],
                recorded["layers"],
                recorded["state_size"],
            )
            continue
        assert (part.cells, part.n_layers) == (recorded["cells"], recorded["n_layers"])
        for role in ("k", "v", "r", "s", "p"):
            assert part.sum(role) == recorded.get(f"{role}_bytes", 0), role
        assert part.streams == recorded.get("streams", 1)
        layers = sorted(layer for group in recorded["layer_groups"] for layer in group["il"])
        assert sorted({tensor.layer for tensor in part.tensors if tensor.role != "p"}) == layers


@each("config", CONFIGS, ids=[config["general.architecture"] for config in CONFIGS])
def test_laws_of_a_context(config: dict[str, Any]) -> None:
    small, large = made(config), made(config, n_ctx=8192)
    assert small.total_bytes <= large.total_bytes
    assert small.state_bytes == large.state_bytes
    for context in (small, large, made(config, n_ctx=5000, n_seq_max=3)):
        assert context.n_ctx % 256 == 0
        assert all(part.cells % 256 == 0 for part in context.parts if part.sum("k"))
    assert made(config, n_ctx=16384).total_bytes <= made(config, n_ctx=16384, swa_full=True).total_bytes
    assert made(config, type_k="f32", type_v="f32").k_bytes == 2 * small.k_bytes
    assert made(config, type_k="bf16", type_v="bf16").total_bytes == small.total_bytes
    assert small.total_bytes <= made(config, flash_attn="off").total_bytes
    assert small.k_bytes == made(config, flash_attn="off").k_bytes


@each("config", CONFIGS, ids=[config["general.architecture"] for config in CONFIGS])
def test_several_streams_hold_what_one_pool_holds_and_more(config: dict[str, Any]) -> None:
    apart = made(config, n_ctx=32768, n_seq_max=4)
    pool = made(config, n_ctx=32768, n_seq_max=4, kv_unified=True)
    assert apart.n_ctx_seq * 4 == pool.n_ctx_seq == 32768
    assert apart.state_bytes == pool.state_bytes
    arch = config["general.architecture"]
    if arch != "deepseek4" and arch not in SWA:
        assert apart.total_bytes == pool.total_bytes


@given(
    st.sampled_from(CONFIGS), st.integers(1, 1 << 20), st.integers(1, 1 << 20), st.integers(1, 256),
    st.sampled_from(sorted(CACHE_TYPES)), st.booleans(), st.booleans(),
)  # fmt: skip
@settings(max_examples=200)
def test_more_tokens_never_take_fewer_bytes(
    config: dict[str, Any], one: int, other: int, sequences: int, kind: str, unified: bool, full: bool
) -> None:
    h = read_hparams(config)
    params = Params(
        n_ctx=max(min(one, other), sequences),
        n_seq_max=sequences,
        kv_unified=unified,
        swa_full=full,
        type_k=kind,
        type_v=kind,
        flash_attn="on",
    )
    low, high = make_context(h, params), make_context(h, replace(params, n_ctx=max(one, other, sequences)))
    assert isinstance(low, Refusal) == isinstance(high, Refusal)
    if isinstance(low, Context) and isinstance(high, Context):
        assert low.total_bytes <= high.total_bytes
        assert low.n_ctx >= min(one, other) // sequences


LLAMA = {
    "general.architecture": "llama", "llama.block_count": 4, "llama.context_length": 1000, "llama.embedding_length": 320,
    "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2, "llama.vocab_size": 10,
}  # fmt: skip


@each(
    ("changes", "message"),
    [
        ({"n_seq_max": 257}, "n_seq_max must be <= 256"),
        ({"type_v": "q8_0", "flash_attn": "off"}, "quantized V cache requires flash_attn to be enabled"),
        ({"type_k": "q8_0"}, "K cache type q8_0 with block size 32 does not divide n_embd_head_k=80"),
        ({"type_v": "q4_0"}, "V cache type q4_0 with block size 32 does not divide n_embd_head_v=80"),
        ({"ctx_type": "mtp"}, "no NextN layers"),
    ],
)
def test_refusals_of_the_engine_are_its_own_words(changes: dict[str, Any], message: str) -> None:
    refusal = make_context(read_hparams(LLAMA), Params(**{"n_ctx": 512, "n_seq_max": 1} | changes))
    assert isinstance(refusal, Refusal)
    assert message in refusal.message


def test_quantised_keys_without_flash_attention_are_not_checked() -> None:
    assert isinstance(make_context(read_hparams(LLAMA), Params(n_ctx=512, n_seq_max=1, type_k="q8_0", flash_attn="off")), Context)


def test_latent_attention_takes_one_cache_type() -> None:
    mla = next(c["config"] for c in API if c["arch"] == "deepseek2" and "deepseek2.attention.key_length_mla" in c["config"])
    refusal = make_context(read_hparams(mla), Params(n_ctx=512, n_seq_max=1, type_k="q8_0"))
    assert isinstance(refusal, Refusal)
    assert "different K (q8_0) and V (f16)" in refusal.message


def test_t5_aborts_with_several_streams() -> None:
    t5 = {key.replace("llama", "t5"): "t5" if value == "llama" else value for key, value in LLAMA.items()}
    assert isinstance(make_context(read_hparams(t5), Params(n_ctx=512, n_seq_max=2)), Refusal)
    whole = make_context(read_hparams(t5), Params(n_ctx=512, n_seq_max=2, kv_unified=True))
    assert isinstance(whole, Context)
    assert whole.output_buffer_bytes == 4 * 10 * 2 + 4 * 320 * 2


def test_zero_means_the_models_own_length() -> None:
    assert made(LLAMA, n_ctx=0).n_ctx == pad(1000) == 1024


@each(
    ("key", "value", "message"),
    [
        ("llama.block_count", None, "`llama.block_count` is missing"),
        ("llama.context_length", None, "`llama.context_length` is missing"),
        ("llama.block_count", 0, "at least 1"),
        ("llama.block_count", 10**9, "whole number"),
        ("llama.block_count", 513, "whole number"),
        ("llama.block_count", "4", "whole number"),
        ("llama.block_count", True, "whole number"),
        ("llama.attention.head_count_kv", [1, 2, 3], "3 entries for 4 layers"),
        ("llama.attention.head_count_kv", [1, 2, 3, 4, 5], "5 entries for 4 layers"),
        ("llama.attention.head_count_kv", [1, 2, 3, "x"], "whole numbers"),
        ("llama.rope.dimension_count", 64, "invalid n_rot: 64, expected 80"),
        ("llama.nextn_predict_layers", 4, "NextN"),
        ("general.architecture", None, "`general.architecture` is missing"),
        ("general.architecture", 7, "`general.architecture` is missing"),
    ],
)
def test_metadata_that_llama_cpp_does_not_load_is_refused(key: str, value: object, message: str) -> None:
    keys = {**LLAMA, key: value}
    if value is None:
        del keys[key]
    with pytest.raises(GgufError, match=message.replace(".", r"\.")):
        read_hparams(keys, "file.gguf")


def test_an_indexer_beside_windows_has_its_own_cache() -> None:
    """dots3note: latents on full layers, a window of narrower ones on the others, an indexer where `indexer.types` says."""
    keys = {key.replace("llama", "dots3note"): value for key, value in LLAMA.items()} | {
        "general.architecture": "dots3note",
        "dots3note.attention.head_count_kv": 1,
        "dots3note.attention.key_length": 576,
        "dots3note.attention.value_length": 512,
        "dots3note.attention.key_length_mla": 192,
        "dots3note.attention.value_length_mla": 128,
        "dots3note.attention.key_length_swa": 192,
        "dots3note.attention.sliding_window": 512,
        "dots3note.attention.sliding_window_pattern": [True, True, True, False],
        "dots3note.attention.indexer.key_length": 128,
        "dots3note.attention.indexer.types": [0, 0, 0, 1],
    }
    context = made(keys, n_ctx=8192)
    assert [(p.name, p.cells, p.n_layers, p.sum("k"), p.sum("v")) for p in context.parts] == [
        ("mla", 8192, 1, 8192 * 576 * 2, 0),
        ("indexer", 8192, 1, 8192 * 128 * 2, 0),
        ("swa", 1024, 3, 3 * 1024 * 192 * 2, 0),
    ]


def test_what_aborts_is_a_refusal() -> None:
    assert isinstance(make_context(read_hparams(LLAMA), Params(n_ctx=1, n_seq_max=2)), Refusal)
    assert isinstance(make_context(read_hparams(LLAMA), Params(n_ctx=512, n_batch=1, n_seq_max=2)), Refusal)
    assert isinstance(make_context(read_hparams(LLAMA), Params(n_ctx=2, n_seq_max=2)), Context)
    gemma = {key.replace("llama", "gemma2"): value for key, value in LLAMA.items()} | {"general.architecture": "gemma2"}
    none_slides = gemma | {"gemma2.attention.sliding_window_pattern": [False] * 4}
    refusal = make_context(read_hparams(none_slides), Params(n_ctx=512, n_seq_max=1))
    assert isinstance(refusal, Refusal)
    assert "is_swa_any" in refusal.message


def test_a_window_of_0_is_a_window_except_where_the_key_is_optional() -> None:
    for arch, windows in (("gemma2", True), ("gemma3", False), ("olmo2", False), ("gpt-oss", True)):
        keys = {key.replace("llama", arch): value for key, value in LLAMA.items()} | {"general.architecture": arch}
        h = read_hparams(keys | {f"{arch}.attention.sliding_window": 0})
        assert h.has_swa is windows, arch


def test_hybrids_hold_prediction_layers_where_their_filters_do_not_look() -> None:
    """`create_memory`: Ling 3's main context keeps its NextN layer too, Qwen3.5's does not."""
    for arch, held in (("bailingmoe3", 2), ("qwen35", 1)):
        keys = {key.replace("llama", arch): value for key, value in LLAMA.items()} | {
            "general.architecture": arch,
            f"{arch}.block_count": 3,
            f"{arch}.nextn_predict_layers": 1,
            f"{arch}.attention.head_count": 4,
            f"{arch}.attention.head_count_kv": [0, 2, 2] if arch == "bailingmoe3" else 2,
            f"{arch}.attention.recurrent_layers": [True, False],
            f"{arch}.kda.head_dim": 32,
            **{
                f"{arch}.ssm.{name}": size
                for name, size in (("conv_kernel", 4), ("inner_size", 256), ("state_size", 32), ("group_count", 2))
            },
        }
        context = made(keys, n_ctx=512)
        assert next(p.n_layers for p in context.parts if p.name == "attn") == held


def test_minimax_m3_holds_prediction_layers_in_both_caches() -> None:
    keys = {key.replace("llama", "minimax-m3"): value for key, value in LLAMA.items()} | {
        "general.architecture": "minimax-m3",
        "minimax-m3.nextn_predict_layers": 1,
        "minimax-m3.leading_dense_block_count": 3,
        "minimax-m3.attention.indexer.key_length": 64,
    }
    for ctx_type in ("default", "mtp"):
        context = made(keys, n_ctx=512, ctx_type=ctx_type)
        assert [(p.name, p.n_layers) for p in context.parts] == [("kv", 4), ("indexer", 1)]


@each("arch", sorted(SWA))
def test_a_window_is_required_where_the_engine_requires_it(arch: str) -> None:
    keys = {key.replace("llama", arch): arch if value == "llama" else value for key, value in LLAMA.items()}
    if SWA[arch].required:
        with pytest.raises(GgufError, match="sliding_window"):
            read_hparams(keys)
    else:
        read_hparams(keys)


def test_a_number_of_loops_cannot_fill_the_memory() -> None:
    keys = {key.replace("llama", "nanbeige"): "nanbeige" if value == "llama" else value for key, value in LLAMA.items()}
    assert read_hparams({**keys, "nanbeige.num_loops": 3}).n_layer == 12
    for loops in (0, 200, 2**31 - 1):
        with pytest.raises(GgufError, match="loops"):
            read_hparams({**keys, "nanbeige.num_loops": loops})
