"""What TensorRT-LLM changed between releases, as far as memory goes."""

from __future__ import annotations

from typing import Final, Literal

from kvplan.engines.kernel.releases import Quirk, quirk

Backend = Literal["tensorrt", "pytorch"]

BACKEND: Final[Quirk[Backend]] = quirk(
    ((0,), "tensorrt", "compiled engines"), ((1, 0), "pytorch", "llmapi/llm.py"), says="what `trtllm-serve` runs when nobody says"
)
TOKENS_PER_BLOCK: Final[Quirk[int]] = quirk(
    ((0,), 64, "builder.py, plugin.py; published starts of 0.12 to 0.17"),
    ((0, 18), 32, "llmapi/llm_args.py:KvCacheConfig; published starts from 0.18 on"),
    says="tokens of a block",
)
ROUNDS_UP: Final[Quirk[bool]] = quirk(
    ((0,), True, "kvCacheManager.cpp; resource_manager.py: math.ceil"),
    ((1, 3), False, "resource_manager.py: max_tokens // tokens_per_block"),
    says="tokens are rounded up to blocks",
)
SECOND_MANAGER: Final[Quirk[Literal["none", "asked", "chosen"]]] = quirk(
    ((0,), "none", "one manager, in C++"),
    ((1, 3), "asked", "llmapi/llm_args.py: use_kv_cache_manager_v2, default false"),
    ((1, 4), "chosen", "llmapi/llm_args.py: use_kv_cache_manager_v2, default auto: the model says"),
    says="whether the second cache manager is chosen",
)
DERIVES_WINDOWS: Final[Quirk[bool]] = quirk(
    ((0,), False, "max_attention_window alone"),
    ((1, 4), True, "kv_cache_manager_v2.py: layer_types and sliding_window"),
    says="the second cache manager takes each layer's window from the config",
)
ONE_DRAFTER: Final[Quirk[bool]] = quirk(
    ((0,), False, "speculative/utils.py:get_num_spec_layers; published starts of 1.3 with MTP 1 and 3"),
    ((1, 4), True, "speculative/utils.py: one-model MTP-eagle keeps one layer"),
    says="a drafter of several tokens has one layer for all",
)
