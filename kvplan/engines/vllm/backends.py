"""Which attention backend of vLLM takes which cache dtype, by the kind of head, on CUDA.

A combination that no row holds is refused by the engine (`platforms/cuda.py:get_attn_backend_cls`: "No valid attention
backend found"), so no number rests on it. Source: each backend's `supported_kv_cache_dtypes` and
`supports_compute_capability`, 0.33.0; the dtypes' releases are those of `config/cache.py:CacheDType`.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from kvplan.engines.kernel.releases import Release

Heads = Literal["softmax", "latent", "sparse latent"]

_V1: Final = "vllm/v1/attention/backends"
_PLAIN: Final = frozenset({"auto", "float16", "bfloat16"})
_FP8: Final = frozenset({"fp8", "fp8_e4m3"})
_ANY: Final = (0, 999)
_FP8_CARDS: Final = (89, 999)  # compute capability 8.9 and later multiply fp8
_HOPPER: Final = (90, 99)
_SM10: Final = (100, 109)
_SM12: Final = (120, 129)


class Backend(Struct, frozen=True):
    """One backend on cards of a range of compute capabilities (90 is sm_90): the kind of heads and the cache dtypes it takes."""

    name: str
    heads: Heads
    dtypes: frozenset[str]
    capabilities: tuple[int, int]
    source: str


BACKENDS: Final = (
    Backend("FLASH_ATTN", "softmax", _PLAIN, (80, 999), f"{_V1}/flash_attn.py"),
    Backend("FLASH_ATTN", "softmax", _FP8, _HOPPER, f"{_V1}/flash_attn.py:supports_kv_cache_dtype"),
    Backend("FLASHINFER", "softmax", _PLAIN | _FP8 | {"fp8_e5m2"}, (75, 999), f"{_V1}/flashinfer.py"),
    Backend("FLASHINFER", "softmax", frozenset({"nvfp4"}), _SM10, f"{_V1}/flashinfer.py:supports_kv_cache_dtype"),
    Backend("TRITON_ATTN", "softmax", _PLAIN | _FP8 | {"fp8_e5m2"}, _ANY, f"{_V1}/triton_attn.py"),
    Backend(
        "TRITON_ATTN", "softmax", frozenset({"int4_per_token_head", "int8_per_token_head", "fp8_per_token_head"}), _ANY,
        f"{_V1}/triton_attn.py",
    ),
    Backend(
        "TURBOQUANT", "softmax",
        frozenset({"turboquant_k8v4", "turboquant_4bit_nc", "turboquant_k3v4_nc", "turboquant_3bit_nc"}), _ANY,
        f"{_V1}/turboquant_attn.py",
    ),
    Backend("FLASH_ATTN_MLA", "latent", _PLAIN, _HOPPER, f"{_V1}/mla/flashattn_mla.py"),
    Backend("FLASHMLA", "latent", _PLAIN | _FP8, (90, 109), f"{_V1}/mla/flashmla.py"),
    Backend("FLASHINFER_MLA", "latent", _PLAIN | _FP8, _SM10, f"{_V1}/mla/flashinfer_mla.py"),
    Backend("TRITON_MLA", "latent", _PLAIN, _ANY, f"{_V1}/mla/triton_mla.py"),
    Backend("TRITON_MLA", "latent", _FP8, _FP8_CARDS, f"{_V1}/mla/triton_mla.py (SM89+)"),
    Backend("FLASHMLA_SPARSE", "sparse latent", frozenset({"auto", "bfloat16", "fp8_ds_mla", "fp8", "fp8_e4m3"}), (90, 109),
            f"{_V1}/mla/flashmla_sparse.py"),
    Backend("FLASHMLA_SPARSE", "sparse latent", frozenset({"nvfp4_ds_mla"}), _SM10, f"{_V1}/mla/flashmla_sparse.py"),
    Backend("FLASHINFER_MLA_SPARSE", "sparse latent", _PLAIN | _FP8, _SM10, f"{_V1}/mla/flashinfer_mla_sparse.py"),
    Backend("FLASHINFER_MLA_SPARSE_SM120", "sparse latent", _PLAIN | _FP8, _SM12, f"{_V1}/mla/flashinfer_mla_sparse.py"),
)  # fmt: skip
#: Cache dtypes that came later than the engine's V1: the first release whose parser takes them.
SINCE: Final[dict[str, Release]] = {
    "fp8_ds_mla": (0, 11, 1),
    "nvfp4_ds_mla": (0, 29),
    "int4_per_token_head": (0, 25),
    **dict.fromkeys(
        (
            "fp8_per_token_head", "int8_per_token_head", "nvfp4", "turboquant_k8v4", "turboquant_4bit_nc", "turboquant_k3v4_nc",
            "turboquant_3bit_nc",
        ),
        (0, 20),
    ),
}  # fmt: skip


def takers(heads: Heads, dtype: str, capability: int) -> tuple[str, ...]:
    """The backends that take such heads with a cache of this dtype on such a card, in the table's order.

    >>> takers("latent", "fp8", 90)
    ('FLASHMLA', 'TRITON_MLA')
    >>> takers("latent", "int4_per_token_head", 90)
    ()
    """
    return tuple(
        row.name
        for row in BACKENDS
        if row.heads == heads and dtype in row.dtypes and row.capabilities[0] <= capability <= row.capabilities[1]
    )
