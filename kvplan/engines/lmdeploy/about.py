"""What is known of LMDeploy without loading its rules."""

from typing import Final

from kvplan.engines.kernel.about import About, Reserve, Share
from kvplan.units import GIB

_POLICY: Final = "--quant-policy "

ABOUT: Final = About(
    name="lmdeploy",
    latest="0.18.0",
    source="lmdeploy 0.18.0, pytorch/engine/cache_engine/*.py, pytorch/engine/executor/base.py; TurboMind: 1263d5cd",
    engine="kvplan.engines.lmdeploy.engine:Lmdeploy",
    roles={
        "kv_dtype": "quant_policy",
        "tensor_parallel": "tp",
        "context": "session_len",
        "sequences": "max_batch_size",
        "utilization": "cache_max_entry_count",
        "device_name": "device_name",
        "compute_capability": "compute_capability",
    },
    # int8 and int4 keep a 16-bit scale and zero for each token and head
    cache_dtypes={
        "bfloat16": _POLICY + "none",
        "int8_per_token_head": _POLICY + "int8",
        "fp8_e4m3": _POLICY + "fp8",
        "fp8_e5m2": _POLICY + "fp8_e5m2",
        "int4_per_token_head": _POLICY + "int4",
    },
    weight_formats=("fp8", "awq"),
    # what a pass of prefill may need it sets aside itself, by the vocabulary
    reserve=Reserve(GIB, "context, libraries"),
    share=Share(
        meaning="of free after loading",
        flag="--cache-max-entry-count {}",
        split_flag="--tp {}",
        source="lmdeploy/pytorch/engine/executor/base.py:update_configs",
        rank=1,
    ),
    program="lmdeploy",
    makers=("nvidia",),
    rules_of_device="CUDA's rules",
    recorded="kvplan.engines.lmdeploy.recorded",
    rules="lmdeploy pytorch/engine/cache_engine/layout.py, plan.py; pytorch/engine/executor/base.py",
    audit="kvplan.engines.lmdeploy.audit",
    logs="kvplan.engines.lmdeploy.startup",
    tables="kvplan.engines.lmdeploy.tables",
    commands="kvplan.engines.lmdeploy.commandline:COMMANDS",
)
