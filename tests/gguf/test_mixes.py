"""GGUF mixes: sizes of published files and of buffers in logs are met; every type of every mix exists."""

import json
from typing import Any

import pytest
from each import each
from golden import CONFIGS
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan import architectures
from kvplan.architectures.weights import gguf_weights
from kvplan.domain.model import Model
from kvplan.gguf.ggml import GGML_TYPES
from kvplan.gguf.mixes import DEFAULTS, Subject, Tensor, mix_of, mixed_bytes, type_bytes, typed

MIB = 2**20


def hub(stem: str) -> Model:
    return architectures.read(json.loads((CONFIGS / "hf" / f"{stem}.json").read_text(encoding="utf-8")), name=stem)


def bytes_of(model: Model, mix: str) -> int:
    found = gguf_weights(model, mix)
    assert found is not None
    return found.bytes


@pytest.mark.parametrize(
    ("stem", "mix", "size"),
    [  # params.tsv: the tensors of these files, from their headers
        ("meta-llama__Llama-3.1-8B", "q8_0", 8_532_934_912), ("deepseek-ai__DeepSeek-R1", "bf16", 1_342_267_742_208),
        ("deepseek-ai__DeepSeek-R1", "q8_0", 713_281_210_368),
    ],
)  # fmt: skip
def test_headers_of_published_files_are_met_to_the_byte(stem: str, mix: str, size: int) -> None:
    assert bytes_of(hub(stem), mix) == size


@pytest.mark.parametrize(
    ("stem", "size"),
    [  # params.tsv: whole files, or sizes that were printed in GiB
        ("nvidia__NVIDIA-Nemotron-3-Nano-4B-BF16", 2_837_072_864), ("tencent__Hunyuan-A13B-Instruct", 48_726_403_973),
        ("Qwen__Qwen3-Next-80B-A3B-Instruct", 48_404_281_426),
    ],
)  # fmt: skip
def test_files_are_met_within_half_a_percent(stem: str, size: int) -> None:
    assert bytes_of(hub(stem), "q4_k_m") == pytest.approx(size, rel=0.005)


@pytest.mark.parametrize(
    ("stem", "mix", "mib"),
    [  # `model buffer size` lines of real logs (golden/llama_cpp_gpu_logs.jsonl: llama-3.1-8b, mistral-nemo-12b, qwen3.5-35b-a3b)
        ("meta-llama__Llama-3.1-8B", "q4_0", (4155.99, 281.81)),
        ("mistralai__Mistral-Nemo-Instruct-2407", "q4_k_m", (525.62, 6597.68)),
        ("Qwen__Qwen3.5-35B-A3B", "q8_0", (515.31, 17931.70, 16736.08)),
    ],
)
def test_buffers_in_logs_are_met_to_what_they_print(stem: str, mix: str, mib: "tuple[float, ...]") -> None:
    assert abs(bytes_of(hub(stem), mix) / MIB - sum(mib)) <= 0.005 * len(mib) + 0.001


def test_every_type_exists() -> None:
    known = {name for name, _, _ in GGML_TYPES.values()}
    subjects = [
        Subject(gqa=g, experts=e, layers=32, tied=t, falcon=f) for g in (1, 8) for e in (0, 8, 64) for t in (0, 1) for f in (0, 1)
    ]
    listed = [
        Tensor(category=c, columns=n, elements=4 * n, layer=i) for c in CATEGORIES for n in (256, 96, 7) for i in (0, 15, 31)
    ]
    for mix in DEFAULTS:
        for subject in subjects:
            for tensor, kind in typed(listed, subject, mix):
                assert kind in known
                assert tensor.category or kind == "f32"


CATEGORIES = ("", "embed", "output", "q", "k", "v", "o", "up", "gate", "down", "other")


@given(
    st.lists(st.tuples(st.sampled_from(CATEGORIES), st.integers(1, 20)), min_size=1, max_size=20),
    st.sampled_from(sorted(DEFAULTS)),
)
def test_no_mix_is_larger_than_sixteen_bits_or_smaller_than_one(shapes: "list[tuple[str, int]]", mix: str) -> None:
    tensors = [Tensor(category=category, columns=256, elements=256 * rows) for category, rows in shapes]
    size = mixed_bytes(tensors, Subject(gqa=4, experts=0, layers=8, tied=False), mix)
    total = sum(tensor.elements for tensor in tensors)
    assert total / 8 < size <= 4 * total


def test_lighter_mixes_are_lighter() -> None:
    model = kvplan.load("llama-3.1-8b")
    order = ("iq1_s", "iq2_xxs", "iq2_m", "iq3_xxs", "iq3_m", "iq4_xs", "q4_k_s", "q4_k_m", "q5_k_m", "q6_k", "q8_0")
    sizes = [bytes_of(model, mix) for mix in order]
    assert sizes == sorted(sizes)


def test_q4_k_m_by_hand() -> None:
    """Of 8 layers, the first, the last and every third between keep more bits of ffn_down and attn_v."""
    listed = [Tensor(category=c, columns=256, elements=2560, layer=i) for i in range(8) for c in ("v", "down", "q")]
    chosen: dict[str, Any] = {}
    for tensor, kind in typed(listed, Subject(gqa=1, experts=0, layers=8, tied=False), "q4_k_m"):
        chosen.setdefault(tensor.category, []).append(kind == "q6_k")
    more = [True, False, False, True, False, False, True, True]
    assert chosen == {"v": more, "down": more, "q": [False] * 8}
    assert type_bytes("q4_k", 256, 2560) == 1440


@each("name", ["", "q4_k_xl", "ud-q4_k_xl", "q9_0", "awq", "q4_k_m.gguf"])
def test_other_names_are_no_mix(name: str) -> None:
    assert mix_of(name) is None
