"""What a quantised linear layer keeps on the device, by the way that vLLM stores it on Hopper."""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from math import prod
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.parameters import Parameter
from kvplan.units import ceil_div

_FLOAT: Final = 4
_PLAIN: Final = frozenset({"embed", "positions", "router", "head"})
_TOWERS: Final = frozenset({"vision", "audio", "encoder"})
_BLOCK: Final = 128  # rows and columns of one scale in block-quantised fp8


class Quantised(Struct, frozen=True, kw_only=True):
    """A scheme: bits of a weight, and how many weights share a scale.

    Attributes:
        name: vLLM's name of the method.
        bits: bits of a weight.
        group: weights along a row that share a scale; 0: a row, -1: the whole tensor.
        scale_bytes: bytes of a scale.
        zeros: zero points are kept, `bits` each.
        blocks: scales stand for blocks of this many rows and columns (0: not blocks).
        experts_only: only routed experts are converted (mxfp4).
        skipped: parts of names that stay as they are.
        activation_scale: a scale of the inputs is kept too.
        width, hidden: multiples to which mxfp4 experts are padded, in elements.
        marlin: scales of mxfp4 stay in rows instead of Triton's tiles.
    """

    name: str
    bits: int
    group: int = 0
    scale_bytes: int = 2
    zeros: bool = False
    blocks: int = 0
    experts_only: bool = False
    skipped: tuple[str, ...] = ("lm_head",)
    activation_scale: bool = False
    width: int = 64
    hidden: int = 1
    marlin: bool = False


def tensors_of(p: Parameter, shape: tuple[int, ...], item_bytes: int, scheme: Quantised | None, pieces: int = 1) -> Iterator[int]:
    """Bytes of each tensor that a parameter of `shape` (on this rank) becomes.

    Args:
        scheme: None where the parameter stays as it is.
        pieces: checkpoint tensors that it joins, each with a scale of its own where scales stand for whole tensors.
    """
    own = _FLOAT if p.dtype == "float32" else item_bytes
    if scheme is None:
        yield prod(shape) * own
        return
    if len(p.shape) < 2:
        rows = _padded(p, shape[-1], 1, scheme)[0]
        yield prod(shape[:-1]) * rows * (own if scheme.marlin else _FLOAT)  # Triton's kernels add biases in float32
        return
    *outer, rows, columns = shape
    count = prod(outer)
    if scheme.name == "mxfp4":
        yield from _mxfp4(p, count, rows, columns, scheme)
        return
    yield ceil_div(count * rows * columns * scheme.bits, 8)
    yield from _scales(count, rows, columns, scheme)
    if scheme.activation_scale:
        yield count * _FLOAT


def elements_of(p: Parameter, shape: tuple[int, ...], scheme: Quantised | None, pieces: int = 1) -> int:
    """Elements that the loader's modules hold for a parameter: packed weights count as they are packed, scales too."""
    if scheme is None:
        return prod(shape)
    if len(p.shape) < 2:
        return prod(shape[:-1]) * _padded(p, shape[-1], 1, scheme)[0]
    *outer, rows, columns = shape
    count = prod(outer)
    if scheme.name == "mxfp4":
        rows, columns = _padded(p, rows, columns, scheme)
        return count * rows * columns // 2 + count * rows * ceil_div(columns, 32)
    packed = count * rows * columns * scheme.bits // (32 if scheme.bits < 8 else 8)
    if scheme.group < 0:
        return packed + count * pieces * (2 if scheme.activation_scale else 1)
    return packed + sum(size // scheme.scale_bytes for size in _scales(count, rows, columns, scheme))


def _padded(p: Parameter, rows: int, columns: int, scheme: Quantised) -> tuple[int, int]:
    """Rows and columns of an mxfp4 expert's matrix as its kernels want them. Source: `fused_moe/oracle/mxfp4.py`."""
    if p.role == "down":
        return ceil_div(rows, scheme.hidden) * scheme.hidden, ceil_div(columns, scheme.width) * scheme.width
    return 2 * ceil_div(rows // 2, scheme.width) * scheme.width, ceil_div(columns, scheme.hidden) * scheme.hidden


def _mxfp4(p: Parameter, count: int, rows: int, columns: int, scheme: Quantised) -> Iterator[int]:
    """Packed pairs, and scales: in rows, or in Hopper's tiles of 256 rows and 4 groups (`HopperMXScaleLayout`)."""
    rows, columns = _padded(p, rows, columns, scheme)
    yield count * rows * columns // 2
    groups = ceil_div(columns, 32)
    yield count * rows * groups if scheme.marlin else count * ceil_div(rows, 256) * 256 * ceil_div(groups, 4) * 4


def converts(p: Parameter, scheme: Quantised, layer: int | None = None) -> bool:
    """Whether the scheme applies to this parameter in this layer."""
    if scheme.name == "mxfp4" and p.experts and len(p.shape) == 1:
        return True  # an expert's bias takes the kernels' padding
    if not p.linear or len(p.shape) < 2 or p.role in _PLAIN or p.component in _TOWERS:
        return False
    if (scheme.experts_only and not p.experts) or (p.role == "index" and "wq_b" not in p.name):
        return False
    name = _bare(p.name.replace("{layer}", str(layer or 0)).replace("{expert}", "0")).removesuffix(".weight")
    return not any(_matches(name, pattern) for pattern in scheme.skipped)


def _bare(name: str) -> str:
    """A module's name without what wrappers put before it."""
    for prefix in ("model.language_model.", "language_model.model.", "language_model.", "model."):
        name = name.removeprefix(prefix)
    return name


def _matches(name: str, pattern: str) -> bool:
    """Whether a skip list's entry means a module: a regular expression (`re:`), a glob, or the beginning or a part of a name."""
    if pattern.startswith("re:"):
        try:
            return re.search(pattern[3:], f"model.{name}") is not None
        except re.error:
            return False
    bare = _bare(pattern)
    if "*" in bare:
        return fnmatchcase(name, bare) or fnmatchcase(name, f"{bare}.*")
    if "layers." in bare:
        return name == bare or name.startswith(f"{bare}.")
    return bare in name.split(".") or f".{bare}." in f".{name}."


def _scales(count: int, rows: int, columns: int, scheme: Quantised) -> Iterator[int]:
    if scheme.blocks:
        yield count * ceil_div(rows, scheme.blocks) * ceil_div(columns, scheme.blocks) * scheme.scale_bytes
        return
    if scheme.group < 0:
        yield count * scheme.scale_bytes
    elif scheme.group == 0:
        yield count * rows * scheme.scale_bytes
    else:
        groups = count * rows * ceil_div(columns, scheme.group)
        yield groups * scheme.scale_bytes
        if scheme.zeros:
            yield ceil_div(groups * scheme.bits, 8)


#: Schemes that a name says instead of a config: llm-compressor's words, and `--quantization`.
_ASKED: Final[dict[str, Mapping[str, Any]]] = {
    "fp8-dynamic": {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8}}}},
    "w8a8": {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8}}}},
    "w4a16": {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 4, "group_size": 128}}}},
}


def named_scheme(name: str) -> str:
    """The scheme that a repository's name ends in, where its config was not recorded; "" where it says none.

    >>> named_scheme("RedHatAI/Qwen2.5-7B-Instruct-FP8-dynamic"), named_scheme("Qwen/Qwen3-8B")
    ('fp8-dynamic', '')
    """
    words = name.lower().replace(".", "-").replace("_", "-")
    for end in ("fp8-dynamic", "w8a8", "w4a16", "fp8", "awq", "gptq", "nvfp4"):
        if words.endswith(end) or f"-{end}-" in words:
            return end
    return ""


def scheme_of(config: Mapping[str, Any], asked: str = "", marlin: bool = False) -> Quantised | None:
    """The scheme that a checkpoint's `quantization_config` names, or the one asked for at run time; None: plain weights."""
    given = config.get("quantization_config")
    quant: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    method = str(quant.get("quant_method") or quant.get("quant_algo") or "").lower()
    if not method and asked:
        quant = _ASKED.get(asked.lower(), {"quant_method": asked})
        method = str(quant["quant_method"]).lower()
    if not method and quant.get("config_groups"):
        method = "compressed-tensors"
    if not method:
        return None
    skipped = _skipped(quant)
    if (
        method in {"fp8", "fbgemm_fp8", "modelopt", "fp8_e4m3", "modelopt_fp8"}
        and "fp4" not in str(quant.get("quant_algo", "")).lower()
    ):
        if quant.get("weight_block_size"):
            return Quantised(name="fp8", bits=8, blocks=_BLOCK, scale_bytes=_FLOAT, skipped=skipped)
        static = str(quant.get("activation_scheme")) == "static"
        return Quantised(name="fp8", bits=8, group=-1, scale_bytes=_FLOAT, skipped=skipped, activation_scale=static)
    if method in {"mxfp4", "gpt_oss_mxfp4"}:
        found = Quantised(name="mxfp4", bits=4, group=32, scale_bytes=1, experts_only=True, skipped=skipped)
        return replace(found, width=128, hidden=256, marlin=True) if marlin else found
    if "nvfp4" in method or "fp4" in method or str(quant.get("quant_algo", "")).upper() in {"NVFP4", "FP4"}:
        return Quantised(name="nvfp4", bits=4, group=16, scale_bytes=1, skipped=skipped)
    if method in {"compressed-tensors", "compressed_tensors"}:
        return _compressed(quant, skipped)
    if method in {"awq", "awq_marlin", "gptq", "gptq_marlin", "auto-round"}:
        bits = quant.get("bits", quant.get("w_bit", 4))
        group = quant.get("group_size", quant.get("q_group_size", 128))
        return Quantised(
            name=method,
            bits=bits if isinstance(bits, int) else 4,
            group=group if isinstance(group, int) and group > 0 else 0,
            zeros=method.startswith("awq") or not quant.get("sym", True),
            skipped=skipped,
        )
    if method == "bitsandbytes":
        if quant.get("load_in_8bit") or quant.get("_load_in_8bit"):
            return Quantised(name=method, bits=8, group=0, skipped=skipped)
        return Quantised(name=method, bits=4, group=64, scale_bytes=_FLOAT, skipped=skipped)
    return Quantised(name=method, bits=8, group=0, skipped=skipped)


def _compressed(quant: Mapping[str, Any], skipped: tuple[str, ...]) -> Quantised:
    """compressed-tensors: the first group's weights decide."""
    groups = quant.get("config_groups")
    first: Any = next(iter(groups.values()), {}) if isinstance(groups, Mapping) else {}
    weights = first.get("weights") if isinstance(first, Mapping) else None
    weights = weights if isinstance(weights, Mapping) else {}
    bits = weights.get("num_bits")
    bits = bits if isinstance(bits, int) else 8
    strategy = str(weights.get("strategy", "channel"))
    size = weights.get("group_size")
    symmetric = bool(weights.get("symmetric", True))
    if bits == 8:
        if strategy == "block":
            return Quantised(name="compressed-tensors", bits=8, blocks=_BLOCK, scale_bytes=_FLOAT, skipped=skipped)
        group = -1 if strategy == "tensor" else 0
        return Quantised(name="compressed-tensors", bits=8, group=group, scale_bytes=_FLOAT, skipped=skipped)
    fp4 = str(weights.get("type")) == "float"
    return Quantised(
        name="compressed-tensors",
        bits=bits,
        group=size if isinstance(size, int) and size > 0 else 0,
        scale_bytes=1 if fp4 else 2,
        zeros=not symmetric,
        skipped=skipped,
    )


def _skipped(quant: Mapping[str, Any]) -> tuple[str, ...]:
    names: list[str] = ["lm_head"]
    for key in ("ignore", "ignored_layers", "modules_to_not_convert", "exclude_modules"):
        value = quant.get(key)
        if isinstance(value, list):
            names += [str(name) for name in value]
    return tuple(dict.fromkeys(names))
