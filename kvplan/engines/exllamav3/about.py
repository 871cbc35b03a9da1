"""What is known of ExLlamaV3 without loading its rules."""

from typing import Final

from kvplan.engines.kernel.about import About, Reserve, Share
from kvplan.units import GIB

_MODE: Final = "--cache-mode "

ABOUT: Final = About(
    name="exllamav3",
    latest="1.6.5",
    source="exllamav3 1.6.5, cache/*.py, modules/*.py; TabbyAPI e632af4, backends/exllamav3/model.py",
    engine="kvplan.engines.exllamav3.engine:ExLlamaV3",
    roles={
        "kv_dtype": "cache_mode",
        "tensor_parallel": "tensor_parallel",
        "context": "max_seq_len",
        "compute_capability": "compute_capability",
    },
    # packed in groups of 32 with an fp16 scale each, which is what ggml's types of these names take
    cache_dtypes={
        "float16": _MODE + "FP16",
        "q8_0": _MODE + "Q8",
        "q6_0": _MODE + "Q6",
        "q5_0": _MODE + "5,5",
        "q4_0": _MODE + "Q4",
    },
    weight_formats=(),
    # TabbyAPI's autosplit itself leaves 96 MB
    reserve=Reserve(GIB, "activations, context"),
    share=Share(
        meaning="what its context needs",
        split_flag="--tensor-parallel true",
        source="tabby backends/exllamav3/model.py: cache_size",
    ),
    program="python main.py",
    makers=("nvidia",),
    rules_of_device="CUDA's rules",
    recorded="kvplan.engines.exllamav3.recorded",
    rules="exllamav3 cache/: CacheLayer_fp16, CacheLayer_quant; modules/: SWALayerState, GDNLayerState",
    audit="kvplan.engines.exllamav3.audit",
    tables="kvplan.engines.exllamav3.tables",
    commands="kvplan.engines.exllamav3.commandline:COMMANDS",
    live="kvplan.engines.exllamav3.live:ASKING",
)
