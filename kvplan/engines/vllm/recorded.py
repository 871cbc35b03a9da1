"""What vllm's recorded cases hold: written by tools/make_recorded.py (`make index`); do not edit."""

from typing import Any, Final

# fmt: off
#: Memory kind -> cache dtype -> maker of the device (empty: a CPU) -> releases.
HELD: Final[dict[str, Any]] = {
    "cross": {
        "float16": {"nvidia": ((0, 32, 0),)},
    },
    "index": {
        "bfloat16": {"nvidia": ((0, 32, 0),)},
        "fp8_ds_mla": {"nvidia": ((0, 32, 0),)},
    },
    "index/compressed": {
        "fp8_ds_mla": {"nvidia": ((0, 32, 0),)},
    },
    "latent": {
        "bfloat16": {"nvidia": ((0, 11, 0), (0, 26, 0), (0, 32, 0),)},
        "fp8_ds_mla": {"nvidia": ((0, 32, 0),)},
        "fp8_e4m3": {"nvidia": ((0, 32, 0),)},
    },
    "recurrent/gated_delta": {
        "bfloat16": {"": ((0, 32, 0),), "nvidia": ((0, 11, 0), (0, 26, 0), (0, 32, 0),)},
        "fp8_e4m3": {"nvidia": ((0, 32, 0),)},
    },
    "recurrent/mamba": {
        "bfloat16": {"nvidia": ((0, 32, 0),)},
    },
    "recurrent/mamba2": {
        "bfloat16": {"nvidia": ((0, 32, 0),)},
        "float16": {"nvidia": ((0, 32, 0),)},
        "fp8_e4m3": {"nvidia": ((0, 32, 0),)},
    },
    "shared": {
        "bfloat16": {"nvidia": ((0, 32, 0),)},
    },
    "softmax": {
        "bfloat16": {"": ((0, 32, 0),), "nvidia": ((0, 11, 0), (0, 19, 0), (0, 26, 0), (0, 32, 0),)},
        "float16": {"nvidia": ((0, 32, 0),)},
        "float32": {"": ((0, 32, 0),)},
        "fp8_e4m3": {"nvidia": ((0, 11, 0), (0, 32, 0),)},
        "fp8_e5m2": {"nvidia": ((0, 32, 0),)},
        "fp8_per_token_head": {"nvidia": ((0, 32, 0),)},
        "int4_per_token_head": {"nvidia": ((0, 32, 0),)},
        "int8_per_token_head": {"nvidia": ((0, 32, 0),)},
        "turboquant_3bit_nc": {"nvidia": ((0, 32, 0),)},
        "turboquant_4bit_nc": {"nvidia": ((0, 32, 0),)},
        "turboquant_k3v4_nc": {"nvidia": ((0, 32, 0),)},
        "turboquant_k8v4": {"nvidia": ((0, 32, 0),)},
    },
    "softmax/chunk": {
        "bfloat16": {"nvidia": ((0, 11, 0), (0, 32, 0),)},
        "fp8_e4m3": {"nvidia": ((0, 32, 0),)},
    },
    "softmax/compressed": {
        "fp8_ds_mla": {"nvidia": ((0, 32, 0),)},
    },
    "softmax/window": {
        "bfloat16": {"": ((0, 32, 0),), "nvidia": ((0, 11, 0), (0, 26, 0), (0, 32, 0),)},
        "fp8_ds_mla": {"nvidia": ((0, 32, 0),)},
        "fp8_e4m3": {"nvidia": ((0, 32, 0),)},
        "int8_per_token_head": {"nvidia": ((0, 32, 0),)},
    },
}
#: From these releases on a rule of its cache was another.
CHANGES: Final[Any] = ((0, 7, 1), (0, 8), (0, 12), (0, 13), (0, 20), (0, 22), (0, 25), (0, 30))
#: The same, of single model types.
CHANGES_OF: Final[dict[str, Any]] = {
}
# fmt: on
