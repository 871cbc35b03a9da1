"""What lmdeploy's recorded cases hold: written by tools/make_recorded.py (`make index`); do not edit."""

from typing import Any, Final

# fmt: off
#: Memory kind -> cache dtype -> maker of the device (empty: a CPU) -> releases.
HELD: Final[dict[str, Any]] = {
    "index": {
        "bfloat16": {"nvidia": ((0, 18, 0),)},
        "fp8_e4m3": {"nvidia": ((0, 18, 0),)},
    },
    "index/compressed": {
        "fp8_e4m3": {"nvidia": ((0, 18, 0),)},
    },
    "latent": {
        "bfloat16": {"nvidia": ((0, 18, 0),)},
        "float16": {"nvidia": ((0, 18, 0),)},
        "fp8_e4m3": {"nvidia": ((0, 18, 0),)},
        "fp8_e5m2": {"nvidia": ((0, 18, 0),)},
        "int4_per_token_head": {"nvidia": ((0, 18, 0),)},
        "int8_per_token_head": {"nvidia": ((0, 18, 0),)},
        "turbo_quant": {"nvidia": ((0, 18, 0),)},
    },
    "recurrent/gated_delta": {
        "bfloat16": {"nvidia": ((0, 18, 0),)},
        "float16": {"nvidia": ((0, 18, 0),)},
        "fp8_e4m3": {"nvidia": ((0, 18, 0),)},
        "fp8_e5m2": {"nvidia": ((0, 18, 0),)},
        "int4_per_token_head": {"nvidia": ((0, 18, 0),)},
        "int8_per_token_head": {"nvidia": ((0, 18, 0),)},
        "turbo_quant": {"nvidia": ((0, 18, 0),)},
    },
    "softmax": {
        "bfloat16": {"nvidia": ((0, 18, 0),)},
        "float16": {"nvidia": ((0, 18, 0),)},
        "fp8_e4m3": {"nvidia": ((0, 18, 0),)},
        "fp8_e5m2": {"nvidia": ((0, 18, 0),)},
        "int4_per_token_head": {"nvidia": ((0, 18, 0),)},
        "int8_per_token_head": {"nvidia": ((0, 18, 0),)},
        "turbo_quant": {"nvidia": ((0, 18, 0),)},
    },
    "softmax/chunk": {
        "bfloat16": {"nvidia": ((0, 18, 0),)},
        "float16": {"nvidia": ((0, 18, 0),)},
        "fp8_e4m3": {"nvidia": ((0, 18, 0),)},
        "int8_per_token_head": {"nvidia": ((0, 18, 0),)},
    },
    "softmax/compressed": {
        "fp8_e4m3": {"nvidia": ((0, 18, 0),)},
    },
    "softmax/window": {
        "bfloat16": {"nvidia": ((0, 18, 0),)},
        "float16": {"nvidia": ((0, 18, 0),)},
        "fp8_e4m3": {"nvidia": ((0, 18, 0),)},
        "fp8_e5m2": {"nvidia": ((0, 18, 0),)},
        "int4_per_token_head": {"nvidia": ((0, 18, 0),)},
        "int8_per_token_head": {"nvidia": ((0, 18, 0),)},
        "turbo_quant": {"nvidia": ((0, 18, 0),)},
    },
}
#: From these releases on a rule of its cache was another.
CHANGES: Final[Any] = ()
#: The same, of single model types.
CHANGES_OF: Final[dict[str, Any]] = {
}
# fmt: on
