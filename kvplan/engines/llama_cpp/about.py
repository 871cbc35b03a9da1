"""What is known of llama.cpp without loading its rules."""

from typing import Final

from kvplan.engines.kernel.about import About, Reserve, Share
from kvplan.units import GIB

#: kvplan's dtype -> ggml's name of it.
_TYPES: Final = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}

ABOUT: Final = About(
    name="llama.cpp",
    latest="0.5.0",
    source="llama.cpp 0c1e57098 (libllama 0.5.0, ggml 0.25.3)",
    engine="kvplan.engines.llama_cpp.engine:LlamaCpp",
    tier_options=("cache_ram", "ctx_checkpoints"),
    roles={
        "kv_dtype": "kv_dtype",
        "layers": "n_gpu_layers",
        "shares": "tensor_split",
        "cpu_experts": "n_cpu_moe",
        "elsewhere": "override_tensor",
        "cache_on_cards": "offload_kqv",
        "drafter": "draft",
        "projector": "mmproj",
    },
    also={"kv_dtype": ("cache_type_k", "cache_type_v")},
    cache_dtypes={
        name: "-ctk {0} -ctv {0}".format(_TYPES.get(name, name))
        for name in ("float32", "bfloat16", "float16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
    },
    weight_formats=("q8_0", "q4_k_m"),
    lengths=("ctx_size",),
    reserve=Reserve(GIB, "compute buffers, context"),  # its own --fit leaves 1024 MiB free (common/fit.cpp)
    share=Share(meaning="what its context needs", source="llama.cpp src/llama-context.cpp"),
    program="llama-",
    # real allocations by libllama (tests/golden/llama_cpp.jsonl, llama_live.jsonl)
    read_since="b1041",
    recorded="kvplan.engines.llama_cpp.recorded",
    rules="llama.cpp src/llama-context.cpp, src/llama-kv-cache.cpp, src/llama-memory-recurrent.cpp: constructors",
    media="kvplan.engines.llama_cpp.media_use:used",
    audit="kvplan.engines.llama_cpp.audit.cases",
    tiers="kvplan.engines.llama_cpp.tiers:tiers",
    logs="kvplan.engines.llama_cpp.audit.log",
    field_logs="kvplan.engines.llama_cpp.audit.fieldlog",
    suffixes=(".gguf",),
    default_on=("apple",),
    commands="kvplan.engines.llama_cpp.commandline:COMMANDS",
    spread="kvplan.engines.llama_cpp.spread",
    live="kvplan.engines.llama_cpp.live:ASKING",
)
