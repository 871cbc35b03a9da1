"""What is known of the transformers library without loading its rules."""

from typing import Final

from kvplan.engines.kernel.about import About, Recorded, Reserve, Share
from kvplan.units import GIB

#: Kinds that occur in small models of every release that ships such a model.
_KEYS_AND_STATES: Final = frozenset(
    {
        "softmax", "softmax/window", "softmax/chunk", "cross", "cross/window", "shared", "latent", "recurrent/mamba",
        "recurrent/mamba2", "recurrent/gated_delta", "recurrent/linear", "recurrent/rg_lru", "recurrent/rwkv", "recurrent/xlstm",
    }
)  # fmt: skip

ABOUT: Final = About(
    name="transformers",
    latest="5.23.0",
    source="transformers 4.36 to 5.23.0, cache_utils.py and the models' own files",
    engine="kvplan.engines.transformers.engine:Transformers",
    roles={"kv_dtype": "dtype"},
    cache_dtypes={
        "float32": 'dtype="float32"',
        "bfloat16": 'dtype="bfloat16"',
        "float16": 'dtype="float16"',
        "hqq_int4": 'cache_implementation="quantized"',
        "hqq_int2": 'cache_implementation="quantized", cache_config={"nbits": 2}',
    },
    # the copy that a growing cache makes of its largest tensor is in it
    reserve=Reserve(2 * GIB, "activations, context, copies"),
    share=Share(
        meaning="grows as it goes",
        flag="torch.cuda.set_per_process_memory_fraction({})",
        source="torch.cuda: a limit, of the total",
        rank=2,
        limits=True,
    ),
    # caches of real models (tests/golden/transformers.jsonl, and small ones of every release in transformers_versions.jsonl)
    recorded=(
        Recorded((4, 36), (5, 23, 0), _KEYS_AND_STATES),
        Recorded((5, 23), (5, 23, 0), frozenset({"latent/window", "recurrent/kda", "recurrent/short_conv", "index"})),
        Recorded((5, 8), (5, 23, 0), frozenset({"softmax/compressed", "index/compressed"})),
    ),
    rules="transformers cache_utils.py: DynamicLayer.update, DynamicSlidingWindowLayer, StaticLayer, QuantizedLayer",
    audit="kvplan.engines.transformers.audit",
)
