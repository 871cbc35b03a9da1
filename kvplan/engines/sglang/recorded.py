"""What sglang's recorded cases hold: written by tools/make_recorded.py (`make index`); do not edit."""

from typing import Any, Final

# fmt: off
#: Memory kind -> cache dtype -> maker of the device (empty: a CPU) -> releases.
HELD: Final[dict[str, Any]] = {
    "index": {
        "bfloat16": {"nvidia": ((0, 5, 23),)},
        "fp8_e4m3": {"nvidia": ((0, 5, 23),)},
    },
    "index/compressed": {
        "fp8_e4m3": {"nvidia": ((0, 5, 23),)},
    },
    "latent": {
        "bfloat16": {"nvidia": ((0, 5, 23),)},
        "float16": {"nvidia": ((0, 5, 23),)},
        "fp8_e4m3": {"nvidia": ((0, 5, 23),)},
        "fp8_e5m2": {"nvidia": ((0, 5, 23),)},
    },
    "recurrent/gated_delta": {
        "bfloat16": {"nvidia": ((0, 5, 23),)},
        "float16": {"nvidia": ((0, 5, 23),)},
        "fp4_mx_block16": {"nvidia": ((0, 5, 23),)},
        "fp8_e4m3": {"nvidia": ((0, 5, 23),)},
        "fp8_e5m2": {"nvidia": ((0, 5, 23),)},
        "mxfp8": {"nvidia": ((0, 5, 23),)},
    },
    "recurrent/kda": {
        "bfloat16": {"nvidia": ((0, 5, 23),)},
        "fp8_e4m3": {"nvidia": ((0, 5, 23),)},
    },
    "recurrent/mamba": {
        "bfloat16": {"nvidia": ((0, 5, 23),)},
        "float16": {"nvidia": ((0, 5, 23),)},
        "fp8_e4m3": {"nvidia": ((0, 5, 23),)},
    },
    "recurrent/mamba2": {
        "bfloat16": {"nvidia": ((0, 5, 23),)},
        "float16": {"nvidia": ((0, 5, 23),)},
        "fp8_e4m3": {"nvidia": ((0, 5, 23),)},
    },
    "recurrent/short_conv": {
        "bfloat16": {"nvidia": ((0, 5, 23),)},
        "float16": {"nvidia": ((0, 5, 23),)},
        "fp8_e4m3": {"nvidia": ((0, 5, 23),)},
    },
    "softmax": {
        "bfloat16": {"nvidia": ((0, 5, 23),)},
        "float16": {"nvidia": ((0, 5, 23),)},
        "fp4_mx_block16": {"nvidia": ((0, 5, 23),)},
        "fp8_e4m3": {"nvidia": ((0, 5, 23),)},
        "fp8_e5m2": {"nvidia": ((0, 5, 23),)},
        "mxfp8": {"nvidia": ((0, 5, 23),)},
        "nvfp4": {"nvidia": ((0, 5, 23),)},
    },
    "softmax/compressed": {
        "fp8_e4m3": {"nvidia": ((0, 5, 23),)},
    },
    "softmax/window": {
        "bfloat16": {"nvidia": ((0, 5, 23),)},
        "float16": {"nvidia": ((0, 5, 23),)},
        "fp4_mx_block16": {"nvidia": ((0, 5, 23),)},
        "fp8_e4m3": {"nvidia": ((0, 5, 23),)},
        "fp8_e5m2": {"nvidia": ((0, 5, 23),)},
        "mxfp8": {"nvidia": ((0, 5, 23),)},
        "nvfp4": {"nvidia": ((0, 5, 23),)},
    },
}
#: From these releases on a rule of its cache was another.
CHANGES: Final[Any] = ()
#: The same, of single model types.
CHANGES_OF: Final[dict[str, Any]] = {
}
# fmt: on
