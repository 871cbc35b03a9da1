"""What is known of the transformers library without loading its rules."""

from typing import Final

from kvplan.engines.kernel.about import About, Recorded, Reserve, Share
from kvplan.units import GIB

#: Release -> kinds that recorded models of it hold, and none of an earlier one.
_FIRST: Final[dict[tuple[int, ...], frozenset[str]]] = {
    (4, 36): frozenset({"softmax", "softmax/window", "cross", "recurrent/rwkv"}),
    (4, 39): frozenset({"recurrent/mamba"}),
    (4, 40): frozenset({"recurrent/rg_lru"}),
    (4, 44): frozenset({"recurrent/mamba2"}),
    (4, 51): frozenset({"softmax/chunk", "latent"}),
    (4, 53): frozenset({"cross/window", "recurrent/linear"}),
    (4, 54): frozenset({"recurrent/xlstm"}),
    (4, 57): frozenset({"recurrent/gated_delta"}),
    (5, 5): frozenset({"shared"}),
    (5, 8): frozenset({"softmax/compressed", "index/compressed"}),
    (5, 11): frozenset({"index"}),
    (5, 17): frozenset({"recurrent/kda"}),
    (5, 23): frozenset({"latent/window", "recurrent/short_conv"}),
}

ABOUT: Final = About(
    name="transformers",
    latest="5.24.0",
    source="transformers 4.36 to 5.24.0, cache_utils.py and the models' own files",
    engine="kvplan.engines.transformers.engine:Transformers",
    roles={"kv_dtype": "dtype"},
    cache_dtypes={
        "float32": 'dtype="float32"',
        "bfloat16": 'dtype="bfloat16"',
        "float16": 'dtype="float16"',
        "hqq_int4": 'cache_implementation="quantized"',
        "hqq_int2": 'cache_implementation="quantized", cache_config={"nbits": 2}',
    },
    weight_formats=("bnb-8bit", "bnb-4bit"),
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
    recorded=tuple(Recorded(first, (5, 24, 0), kinds) for first, kinds in _FIRST.items()),
    rules="transformers cache_utils.py: DynamicLayer.update, DynamicSlidingWindowLayer, StaticLayer, QuantizedLayer",
    audit="kvplan.engines.transformers.audit",
)
