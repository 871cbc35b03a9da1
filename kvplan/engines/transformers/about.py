"""What is known of the transformers library without loading its rules."""

from typing import Final

from kvplan.engines.kernel.about import About, Reserve, Share
from kvplan.units import GIB

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
    weight_flags={"bnb-8bit": "load_in_8bit=True", "bnb-4bit": "load_in_4bit=True"},
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
    recorded="kvplan.engines.transformers.recorded",
    rules="transformers cache_utils.py: DynamicLayer.update, DynamicSlidingWindowLayer, StaticLayer, QuantizedLayer",
    media="kvplan.engines.transformers.media:used",
    audit="kvplan.engines.transformers.audit",
    commands="kvplan.engines.transformers.commandline:COMMANDS",
)
