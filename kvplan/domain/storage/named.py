"""Formats by the names that people and repositories give them: `--weights-dtype awq`, `…-GPTQ-Int8`, `…-bnb-4bit`. Pure."""

import re
from collections.abc import Iterable
from typing import Any, Final

from kvplan.domain.parameters import Parameter
from kvplan.domain.storage.formats import (
    BNB_4BIT,
    BNB_8BIT,
    FP8_BLOCK,
    FP8_ROW,
    INT8_ROW,
    MXFP4,
    MXFP8,
    NVFP4,
    Format,
    awq,
    gptq,
    mlx,
    packed_int,
)
from kvplan.domain.storage.names import Names
from kvplan.domain.storage.schemes import Rule, Scheme

#: Name -> the format of linear layers. Heads, tables, routers and vision towers stay as they are, but mlx converts them too.
_FORMATS: Final[dict[str, Format]] = {
    "fp8": FP8_ROW, "fp8-dynamic": FP8_ROW, "fp8-block": FP8_BLOCK, "int8": INT8_ROW, "w8a8": INT8_ROW, "w8a16": INT8_ROW,
    "int4": packed_int(4, 128), "w4a16": packed_int(4, 128), "awq": awq(), "awq-int4": awq(), "gptq": gptq(), "gptq-int4": gptq(),
    "gptq-int8": gptq(8), "nvfp4": NVFP4, "fp4": NVFP4, "mxfp4": MXFP4, "mxfp8": MXFP8, "bnb-4bit": BNB_4BIT, "nf4": BNB_4BIT,
    "bnb-8bit": BNB_8BIT, "mlx-3bit": mlx(3), "mlx-4bit": mlx(4), "mlx-5bit": mlx(5), "mlx-6bit": mlx(6), "mlx-8bit": mlx(8),
}  # fmt: skip
NAMES: Final = tuple(_FORMATS)
#: What the names of repositories end in, or have between dashes; the first that fits. mlx's own organization says only `4bit`.
_ENDINGS: Final = (
    ("bnb-4bit", "bnb-4bit"), ("bnb-8bit", "bnb-8bit"), ("gptq-int8", "gptq-int8"), ("gptq-8bit", "gptq-int8"), ("gptq", "gptq"),
    ("awq", "awq"), ("w4a16", "w4a16"), ("w8a8", "w8a8"), ("w8a16", "w8a16"), ("nvfp4", "nvfp4"), ("mxfp4", "mxfp4"),
    ("mxfp8", "mxfp8"), ("fp4", "nvfp4"), ("fp8-block", "fp8-block"), ("fp8", "fp8"), ("int4", "int4"), ("int8", "int8"),
    ("3bit", "mlx-3bit"), ("4bit", "mlx-4bit"), ("5bit", "mlx-5bit"), ("6bit", "mlx-6bit"), ("8bit", "mlx-8bit"),
)  # fmt: skip


def named_scheme(name: str, parameters: Iterable[Parameter] = ()) -> Scheme | None:
    """The scheme that a name means for these tensors, or None: no such name.

    `mxfp4` converts experts alone where there are any, as the gpt-oss checkpoints do; `nvfp4` leaves latent attention alone,
    as NVIDIA's own checkpoints do.
    """
    key = name.strip().lower().replace("_", "-")
    form = _FORMATS.get(key)
    if form is None:
        return None
    listed = tuple(parameters)
    latent = any(parameter.role == "kv_a" for parameter in listed)
    return Scheme(
        name=key,
        rules=(Rule(format=form),),
        kept=Names(["self_attn"]) if form is NVFP4 and latent else Names(()),
        roles=frozenset({"embed", "head", "router"}) if key.startswith("mlx") else frozenset(),
        experts_only=form is MXFP4 and any(parameter.experts for parameter in listed),
    )


def format_in(repository: str) -> str:
    """The format that a repository's name says, or "".

    >>> format_in("RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w4a16"), format_in("Qwen/Qwen3-8B")
    ('w4a16', '')
    """
    words = "-".join(re.split(r"[^a-z0-9]+", repository.lower()))
    return next((found for ending, found in _ENDINGS if f"-{ending}-" in f"-{words}-"), "")


#: Modules that quantisers of whole repositories leave alone where their method would not.
_LEFT_ALONE: Final = ("lm_head", "re:.*vision.*", "re:.*visual.*", "re:.*audio.*", "re:.*gate$", "re:.*router$")


def quantization_config(form: str, *, latent: bool = False) -> dict[str, Any]:
    """What a config.json has of a format that `format_in` found: the method's usual settings.

    `latent` says that the model has latent attention, which `nvfp4` checkpoints leave alone.
    """
    bits = int(form[4]) if form.startswith("mlx-") else 0
    if bits:
        return {"quantization": {"group_size": 64, "bits": bits}}
    match form:
        case "awq":
            quant: dict[str, Any] = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
        case "gptq" | "gptq-int8":
            quant = {"quant_method": "gptq", "bits": 8 if form == "gptq-int8" else 4, "group_size": 128}
        case "bnb-4bit":
            quant = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True}
        case "bnb-8bit":
            quant = {"quant_method": "bitsandbytes", "load_in_8bit": True}
        case "nvfp4":
            quant = {
                "quant_method": "modelopt",
                "quant_algo": "NVFP4",
                "ignore": ["lm_head", *(["*self_attn*"] if latent else [])],
            }
        case "mxfp4":
            quant = {"quant_method": "mxfp4"}
        case "fp8-block":
            quant = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
        case _:
            quant = _compressed(form)
    return {"quantization_config": quant}


def _compressed(form: str) -> dict[str, Any]:
    """llm-compressor's settings: a scale an output channel at eight bits, a scale for 128 weights at four."""
    four = form in {"w4a16", "int4"}
    weights: dict[str, Any] = {
        "num_bits": 4 if four else 8, "type": "float" if "fp8" in form else "int", "strategy": "group" if four else "channel",
        "symmetric": True, **({"group_size": 128} if four else {}),
    }  # fmt: skip
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized" if four else "float-quantized" if "fp8" in form else "int-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": list(_LEFT_ALONE),
    }
