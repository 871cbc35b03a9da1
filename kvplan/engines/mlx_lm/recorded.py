"""What mlx-lm's recorded cases hold: written by tools/make_recorded.py (`make index`); do not edit."""

from typing import Any, Final

# fmt: off
#: Memory kind -> cache dtype -> maker of the device (empty: a CPU) -> releases.
HELD: Final[dict[str, Any]] = {
    "index": {
        "4 bits in groups of 32": {"": ((0, 32, 2),)},
        "4 bits in groups of 64": {"": ((0, 32, 2),)},
        "8 bits in groups of 32": {"": ((0, 32, 2),)},
        "8 bits in groups of 64": {"": ((0, 32, 2),)},
        "bfloat16": {"": ((0, 32, 2),)},
    },
    "index/compressed": {
        "4 bits in groups of 32": {"": ((0, 32, 2),)},
        "4 bits in groups of 64": {"": ((0, 32, 2),)},
        "8 bits in groups of 64": {"": ((0, 32, 2),)},
        "bfloat16": {"": ((0, 32, 2),)},
    },
    "latent": {
        "4 bits in groups of 32": {"": ((0, 32, 2),)},
        "4 bits in groups of 64": {"": ((0, 32, 2),)},
        "8 bits in groups of 32": {"": ((0, 32, 2),)},
        "8 bits in groups of 64": {"": ((0, 32, 2),)},
        "bfloat16": {"": ((0, 32, 2),)},
    },
    "recurrent/gated_delta": {
        "4 bits in groups of 32": {"": ((0, 32, 2),)},
        "4 bits in groups of 64": {"": ((0, 32, 2),)},
        "8 bits in groups of 32": {"": ((0, 32, 2),)},
        "8 bits in groups of 64": {"": ((0, 32, 2),)},
        "bfloat16": {"": ((0, 32, 2),)},
    },
    "recurrent/kda": {
        "bfloat16": {"": ((0, 32, 2),)},
    },
    "recurrent/linear": {
        "4 bits in groups of 64": {"": ((0, 32, 2),)},
        "8 bits in groups of 32": {"": ((0, 32, 2),)},
        "8 bits in groups of 64": {"": ((0, 32, 2),)},
        "bfloat16": {"": ((0, 32, 2),)},
    },
    "recurrent/mamba": {
        "8 bits in groups of 32": {"": ((0, 32, 2),)},
        "bfloat16": {"": ((0, 32, 2),)},
    },
    "recurrent/mamba2": {
        "4 bits in groups of 32": {"": ((0, 32, 2),)},
        "4 bits in groups of 64": {"": ((0, 32, 2),)},
        "8 bits in groups of 32": {"": ((0, 32, 2),)},
        "8 bits in groups of 64": {"": ((0, 32, 2),)},
        "bfloat16": {"": ((0, 32, 2),)},
    },
    "recurrent/rg_lru": {
        "bfloat16": {"": ((0, 32, 2),)},
    },
    "recurrent/rwkv": {
        "4 bits in groups of 32": {"": ((0, 32, 2),)},
        "4 bits in groups of 64": {"": ((0, 32, 2),)},
        "8 bits in groups of 32": {"": ((0, 32, 2),)},
        "8 bits in groups of 64": {"": ((0, 32, 2),)},
        "bfloat16": {"": ((0, 32, 2),)},
    },
    "recurrent/short_conv": {
        "4 bits in groups of 32": {"": ((0, 32, 2),)},
        "4 bits in groups of 64": {"": ((0, 32, 2),)},
        "8 bits in groups of 32": {"": ((0, 32, 2),)},
        "8 bits in groups of 64": {"": ((0, 32, 2),)},
        "bfloat16": {"": ((0, 32, 2),)},
    },
    "shared": {
        "4 bits in groups of 64": {"": ((0, 32, 2),)},
        "8 bits in groups of 64": {"": ((0, 32, 2),)},
        "bfloat16": {"": ((0, 32, 2),)},
    },
    "softmax": {
        "4 bits in groups of 32": {"": ((0, 32, 2),)},
        "4 bits in groups of 64": {"": ((0, 32, 2),)},
        "8 bits in groups of 32": {"": ((0, 32, 2),)},
        "8 bits in groups of 64": {"": ((0, 32, 2),)},
        "bfloat16": {"": ((0, 32, 2),)},
        "float16": {"": ((0, 32, 2),)},
        "float32": {"": ((0, 32, 2),)},
    },
    "softmax/chunk": {
        "8 bits in groups of 32": {"": ((0, 32, 2),)},
        "bfloat16": {"": ((0, 32, 2),)},
    },
    "softmax/compressed": {
        "4 bits in groups of 32": {"": ((0, 32, 2),)},
        "4 bits in groups of 64": {"": ((0, 32, 2),)},
        "8 bits in groups of 64": {"": ((0, 32, 2),)},
        "bfloat16": {"": ((0, 32, 2),)},
    },
    "softmax/window": {
        "4 bits in groups of 32": {"": ((0, 32, 2),)},
        "4 bits in groups of 64": {"": ((0, 32, 2),)},
        "8 bits in groups of 32": {"": ((0, 32, 2),)},
        "8 bits in groups of 64": {"": ((0, 32, 2),)},
        "bfloat16": {"": ((0, 32, 2),)},
    },
}
#: From these releases on a rule of its cache was another.
CHANGES: Final[Any] = ()
#: The same, of single model types.
CHANGES_OF: Final[dict[str, Any]] = {
}
# fmt: on
