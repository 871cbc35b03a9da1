"""Single lines of vLLM's ledger: laws of the allocator's blocks, defaults by release, tables, quantised layouts, bands."""

import json
from typing import Any

from each import each
from golden import CONFIGS
from hypothesis import given
from hypothesis import strategies as st

from kvplan.architectures.describe import described
from kvplan.domain.caching_allocator import Allocator
from kvplan.domain.described import Described
from kvplan.domain.machine import Learned
from kvplan.domain.parameters import Parameter
from kvplan.engines.vllm.ledger import build, cards, graphs, machine, releases
from kvplan.engines.vllm.ledger.quantised import converts, scheme_of, tensors_of
from kvplan.engines.vllm.ledger.rotary import Rotary, rotaries
from kvplan.engines.vllm.ledger.settings import Settings, resolve
from kvplan.engines.vllm.ledger.shape import Shape
from kvplan.units import GIB, MIB

NAMES = ("NVIDIA H200", "NVIDIA H100 80GB HBM3", "a100-sxm-80gb", "NVIDIA L4", "NVIDIA GB10", "NVIDIA B200")
H200, H100, A100, L4, GB10, B200 = map(cards.card, NAMES)


def model(name: str, **changes: Any) -> Described:
    config = json.loads((CONFIGS / "hf" / f"{name}.json").read_text(encoding="utf-8"))
    return described({**config, **changes})


LLAMA = model("meta-llama__Llama-3.1-8B")


def dense(architecture: str = "LlamaForCausalLM", **more: Any) -> Shape:
    return Shape(architecture=architecture, text_type="llama", layers=32, hidden=4096, vocab=128_256, **more)


@each(
    ("release", "card", "context", "tokens", "seqs"),
    [
        ((0, 11), H100, "OPENAI_API_SERVER", 8192, 1024),
        ((0, 26), H100, "LLM_CLASS", 16384, 1024),
        ((0, 26), A100, "OPENAI_API_SERVER", 2048, 256),
        ((0, 26), L4, "LLM_CLASS", 8192, 256),
        ((0, 26), B200, "OPENAI_API_SERVER", 8192, 1024),
        ((0, 28), B200, "OPENAI_API_SERVER", 16384, 1024),
        ((0, 30), GB10, "OPENAI_API_SERVER", 8192, 1024),
        ((0, 33), GB10, "OPENAI_API_SERVER", 2048, 256),
    ],
)
def test_batch_defaults_by_card_release_and_context(
    release: tuple[int, ...], card: Any, context: Any, tokens: int, seqs: int
) -> None:
    found = resolve(Settings(release=release, usage_context=context), dense(), card)
    assert (found.tokens, found.seqs) == (tokens, seqs)


def test_the_batch_is_capped_by_what_sequences_can_hold() -> None:
    found = resolve(Settings(release=(0, 26), max_num_seqs=2, max_model_len=1000), dense(), H100)
    assert (found.tokens, found.seqs) == (2000, 2)
    found = resolve(Settings(release=(0, 26), max_num_batched_tokens=64), dense(), H100)
    assert (found.tokens, found.seqs) == (64, 64)


def test_capture_sizes() -> None:
    found = resolve(Settings(release=(0, 26)), dense(), H100).captures
    assert (len(found), found[:5], found[-2:]) == (51, (1, 2, 4, 8, 16), (496, 512))
    assert len(resolve(Settings(release=(0, 11)), dense(), H100).captures) == 67
    assert resolve(Settings(release=(0, 26), max_num_seqs=8), dense(), H100).captures == (1, 2, 4, 8, 16)
    assert resolve(Settings(release=(0, 26), enforce_eager=True), dense(), H100).captures == ()
    assert resolve(Settings(release=(0, 30)), dense(), B200).captures[-1] == 1024


@each(
    ("release", "shape", "v2"),
    [
        ((0, 19), dense("Qwen3ForCausalLM"), False),
        ((0, 22), dense("Qwen3ForCausalLM"), True),
        ((0, 22), dense(), False),
        ((0, 24), dense(), True),
        ((0, 26), dense("Gemma3ForCausalLM"), True),
        ((0, 26), dense("Qwen3MoeForCausalLM", experts=128), False),
        ((0, 26), dense("Qwen2MoeForCausalLM", experts=60), True),
        ((0, 26), dense("JambaForCausalLM", hybrid=True), False),
        ((0, 30), dense("Qwen3MoeForCausalLM", experts=128), True),
    ],
)
def test_the_runner_by_release(release: tuple[int, ...], shape: Shape, v2: bool) -> None:
    assert resolve(Settings(release=release), shape, H100).v2 is v2


def test_requested_memory_by_release() -> None:
    total = 85_029_158_912
    assert build.requested_memory(total, 0.9, (0, 14)) - build.requested_memory(total, 0.9, (0, 11)) in {0, 1}
    assert [releases.UTILIZATION.at(at) for at in ((0, 11), (0, 20), (0, 22), (0, 33))] == [0.9, 0.9, 0.92, 0.92]


def test_a_table_is_made_in_float32_and_its_leftovers_serve_the_next_parameter() -> None:
    """Llama 3.1: 131,072 positions; the next projection of 48 MiB takes the 64 MiB that the table's making freed."""
    memory = Allocator(20 * MIB)
    table = Rotary(positions=131_072, dim=128).make(memory)
    assert memory.allocated == memory.size(table) == 32 * MIB
    assert memory.size(memory.take(48 * MIB)) == 64 * MIB
    wide = Allocator()
    wide.size(Rotary(positions=131_072, dim=128).make(wide))
    assert wide.size(wide.take(48 * MIB)) == 48 * MIB  # without the split limit of 0.22 the block is cut


def test_tables_by_scaling() -> None:
    def one(text: dict[str, Any], text_type: str = "llama", **more: Any) -> Rotary:
        given = {"head_dim": 128, "rope_dim": 0, "item_bytes": 2, "flashinfer": True} | more
        return rotaries({"max_position_embeddings": 4096, **text}, text_type, **given)[""]

    assert one({}).positions == 4096
    assert one({"rope_scaling": {"rope_type": "linear", "factor": 8}}).positions == 32_768
    assert one({"rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 1024}}).positions == 4096
    assert one({"rope_scaling": {"mrope_section": [16, 24, 24]}}).positions == 16_384
    assert one({"rope_scaling": {"type": "yarn", "factor": 40}}, rope_dim=64).item_bytes == 4
    assert one({"rope_scaling": {"type": "yarn", "factor": 40}}, rope_dim=64, flashinfer=False).item_bytes == 2
    assert one({"partial_rotary_factor": 0.5}).dim == 64
    for odd in (float("inf"), float("nan"), -1, True, "8"):
        assert one({"rope_scaling": {"rope_type": "linear", "factor": odd}}).positions == 4096
    assert rotaries({}, "gpt2", 64, 0, 2, True) == {}


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 64 * MIB)), max_size=40))
def test_the_allocator_never_counts_less_than_it_was_asked(steps: list[tuple[bool, int]]) -> None:
    memory, held = Allocator(20 * MIB), {}
    for give, size in steps:
        if give and held:
            memory.give(held.popitem()[0])
        else:
            held[memory.take(size)] = size
        assert sum(held.values()) <= memory.allocated <= memory.reserved
        assert memory.allocated == sum(memory.size(handle) for handle in held)
    for handle in held:
        memory.give(handle)
    memory.empty_cache()
    assert (memory.allocated, memory.reserved) == (0, 0)


def test_quantised_layouts() -> None:
    name = "model.layers.{layer}.mlp.up_proj.weight"
    p = Parameter(name=name, shape=(256, 512), layers=(0,), component="mlp", role="up", linear=True)

    def sizes(quantization_config: dict[str, Any]) -> list[int]:
        scheme = scheme_of({"quantization_config": quantization_config})
        assert scheme is not None
        assert converts(p, scheme, 0)
        return list(tensors_of(p, p.shape, 2, scheme))

    assert sizes({"quant_method": "fp8", "weight_block_size": [128, 128]}) == [256 * 512, 2 * 4 * 4]
    assert sizes({"quant_method": "gptq", "bits": 4, "group_size": 128}) == [256 * 512 // 2, 256 * 4 * 2]
    assert sizes({"quant_method": "awq", "bits": 4, "group_size": 128}) == [256 * 512 // 2, 256 * 4 * 2, 256 * 4 // 2]
    assert sizes({"quant_method": "fp8"}) == [256 * 512, 4]
    kept = scheme_of({"quantization_config": {"quant_method": "fp8", "ignored_layers": ["re:.*mlp.*"]}})
    assert kept is not None
    assert not converts(p, kept, 0)
    broken = scheme_of({"quantization_config": {"quant_method": "fp8", "ignored_layers": ["re:(", 7]}})
    assert broken is not None
    assert converts(p, broken, 0)
    assert scheme_of({}) is None
    assert scheme_of({"quantization_config": "fp8"}) is None


def available(settings: Settings, card: Any = H100, **known: Any) -> Any:
    return build.ledger(LLAMA, settings, card, Learned(**known))[0]


def test_lora_slots_and_parallel_shards() -> None:
    plain = build.parts(LLAMA, Settings(release=(0, 26)), H100).loaded.bytes
    found = available(Settings(release=(0, 26), max_loras=4, max_lora_rank=64))
    slots = found.line(build.LORA)
    assert slots is not None
    assert 0.5 * GIB < slots.bytes < 2 * GIB
    half = build.parts(LLAMA, Settings(release=(0, 26), tensor_parallel_size=2), H100).loaded.bytes
    assert plain / 2 < half < 0.52 * plain
    stages = [build.parts(LLAMA, Settings(release=(0, 26), pipeline_parallel_size=3), H100, stage) for stage in range(3)]
    assert [len(one.rank.layers) for one in stages] == [11, 11, 10]
    assert sum(one.loaded.exact for one in stages) >= 3 * 32 * MIB + 8_030_261_248 * 2 - 32 * MIB


def test_the_estimate_is_taken_off_only_where_the_release_does_so() -> None:
    def in_sum(release: tuple[int, ...], **more: Any) -> bool:
        return any(line.name == graphs.ESTIMATE and line.bytes for line in available(Settings(release=release, **more)).lines)

    assert not in_sum((0, 17))
    assert not in_sum((0, 19))
    assert in_sum((0, 19), estimate_graphs=True)
    assert in_sum((0, 22))
    assert not in_sum((0, 26))  # V2 does not look
    assert in_sum((0, 30))
    assert not in_sum((0, 30), enforce_eager=True)


def test_lines_of_another_log_are_exact_and_say_so() -> None:
    found = available(Settings(release=(0, 26)), total=85_030_000_000, non_torch=300 * MIB, source="server.log")
    assert (found.total.bytes, found.total.basis, found.total.exact) == (85_030_000_000, "your log", True)
    line = found.line(machine.NON_TORCH)
    assert line is not None
    assert (line.bytes, line.basis, line.source) == (300 * MIB, "your log", "server.log")


def test_0_28_counts_the_runners_buffers_and_0_33_not_the_libraries() -> None:
    names = {at: {line.name for line in available(Settings(release=at)).lines} for at in ((0, 26), (0, 28))}
    assert machine.BUFFERS in names[0, 28] - names[0, 26]
    before, after = (build.parts(LLAMA, Settings(release=at), H100).peak.libraries for at in ((0, 30), (0, 33)))
    assert (before, after) == (32 * MIB, 0)


def test_an_unknown_family_has_a_band_and_a_note() -> None:
    found, parts = build.ledger(
        Described(parameters=LLAMA.parameters, config={**LLAMA.config, "architectures": ["NobodyForCausalLM"]}, text=LLAMA.text,
                  text_type="llama"),
        Settings(release=(0, 26), enforce_eager=True), H100,
    )  # fmt: skip
    line = found.line(build.ACTIVATION)
    assert line is not None
    assert line.low < line.bytes < line.high
    assert not parts.peak.known
    assert "NobodyForCausalLM" in found.notes[0]


def test_a_release_between_two_that_were_read_says_so() -> None:
    assert available(Settings(release=(0, 25, 1))).notes == ("vLLM 0.25 was not read: the rules of 0.24 stand in",)
    assert available(Settings(release=(0, 26))).notes == ()


@given(
    st.sampled_from([(0, 11), (0, 19), (0, 22), (0, 26), (0, 28), (0, 33)]),
    st.sampled_from([H200, H100, A100, L4, GB10]),
    st.integers(1, 4096),
    st.integers(1, 65_536),
    st.booleans(),
)
def test_more_sequences_or_tokens_never_leave_more(
    release: tuple[int, ...], card: Any, seqs: int, tokens: int, eager: bool
) -> None:
    def left(seqs: int, tokens: int) -> int:
        settings = Settings(release=release, max_num_seqs=seqs, max_num_batched_tokens=tokens, enforce_eager=eager)
        amount: int = available(settings, card).available.bytes
        return amount

    assert left(2 * seqs, tokens) <= left(seqs, tokens) + MIB
    assert left(seqs, 2 * tokens) <= left(seqs, tokens) + MIB
