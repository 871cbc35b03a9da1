"""Which tensors of a checkpoint its `quantization_config` converts, and to which format. Pure.

A scheme is read once from the config. What it does not say is the method's own rule: heads, routers and vision towers are left
alone by most, and converted by compressed-tensors unless they are ignored.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from kvplan.domain.origin import Settings
from kvplan.domain.parameters import Parameter
from kvplan.domain.storage.formats import (
    BNB_4BIT,
    BNB_4BIT_PLAIN,
    BNB_8BIT,
    FP8_BLOCK,
    FP8_MATRIX,
    FP8_ROW,
    MXFP4,
    MXFP8,
    NVFP4,
    NVFP4_WEIGHTS,
    Format,
    Stored,
    awq,
    gptq,
    mlx,
    packed_int,
    plain,
)
from kvplan.domain.storage.names import Names

_LISTS: Final = ("ignore", "ignored_layers", "modules_to_not_convert", "exclude_modules", "llm_int8_skip_modules")
_TOWERS: Final = frozenset({"vision", "audio"})


class Rule(Struct, frozen=True, kw_only=True):
    """A format and the modules that have it; None: every one that the scheme converts."""

    format: Format
    modules: Names | None = None


class Scheme(Struct, frozen=True, kw_only=True):
    """What a checkpoint converts.

    Attributes:
        name: the method, as the config calls it.
        rules: the first that fits a module gives its format.
        kept: modules that stay as they are.
        roles: roles beside ordinary linear layers (`head`, `router`, `embed`).
        towers: whether vision and audio towers are converted too; drafts: prediction layers.
        experts_only: only routed experts are converted.
        experts: another format for routed experts.
    """

    name: str
    rules: tuple[Rule, ...]
    kept: Names = Names(())
    roles: frozenset[str] = frozenset()
    towers: bool = False
    experts_only: bool = False
    experts: Format | None = None

    def format_of(self, parameter: Parameter, layer: int | None) -> Format | None:
        """The format of a parameter in a layer; None where it stays as it is."""
        if len(parameter.shape) < 2 or not (parameter.linear or parameter.role in self.roles):
            return None
        if parameter.role == "head" and "head" not in self.roles:
            return None
        if (parameter.component in _TOWERS and not self.towers) or (self.experts_only and not parameter.experts):
            return None
        name = parameter.name.replace("{layer}", str(layer or 0)).replace("{expert}", "0")
        module = name.removesuffix(".weight")
        if module in self.kept:
            return None
        if self.experts is not None and parameter.experts:
            return self.experts
        return next((rule.format for rule in self.rules if rule.modules is None or module in rule.modules), None)


def stored(parameters: Iterable[Parameter], item_bytes: int, scheme: Scheme | None = None) -> Stored:
    """What a checkpoint takes: each tensor in its format, the rest at `item_bytes` or as they say themselves.

    A stack of experts is stored as so many matrices.
    """
    size = elements = 0
    for parameter in parameters:
        own = plain(parameter.shape, _OWN_BYTES.get(parameter.dtype, item_bytes))
        for layer in parameter.layers or (None,):
            found = scheme.format_of(parameter, layer) if scheme is not None else None
            one = own if found is None else found.stored(parameter.shape)
            size += one.bytes * max(1, parameter.experts)
            elements += one.elements * max(1, parameter.experts)
    return Stored(size, elements)


_OWN_BYTES: Final = {"float32": 4, "int64": 8, "int32": 4, "bfloat16": 2, "float16": 2}


def scheme_of(config: Settings, text: Settings) -> Scheme | None:
    """What the checkpoint of this config converts, or None: nothing.

    Raises:
        ConfigError: a method whose storage is not known, or keys that do not say what they should.
    """
    for section in (config, text):
        for key in ("quantization_config", "quantization"):
            if section.data.get(key):
                return _scheme(section.section(key), key, text if text.has("expert_dtype") else config)
    return None


def _scheme(quant: Settings, key: str, text: Settings) -> Scheme:
    method = quant.text("quant_method").lower().replace("_", "-")
    if not method and key == "quantization":
        method = "mlx"
    if not method or method == "modelopt":
        method = "modelopt" if quant.has("quant_algo") else "compressed-tensors" if quant.has("config_groups") else method
    if method == "fp8" and quant.has("quantized_layers"):
        method = "modelopt"
    reader = _READERS.get(method)
    if reader is None:
        quant.refuse("quant_method", f"is `{method[:30]}`, whose stored size kvplan does not count")
    return reader(quant, text)


def _names(quant: Settings, *more: str) -> Names:
    """The lists of modules to leave alone, under the names that they have."""
    entries: list[str] = list(more)
    for key in _LISTS:
        entries += quant.names(key)
    try:
        return Names(entries)
    except ValueError as problem:
        quant.refuse("ignore", f"has an entry that cannot be read: {problem}")


def _fp8(quant: Settings, text: Settings) -> Scheme:
    """Fine-grained fp8 (DeepSeek's), or one scale a matrix; an `expert_dtype` of fp4 is DeepSeek V4's."""
    static = quant.text("activation_scheme") == "static"
    block = quant.items("weight_block_size") if isinstance(quant.data.get("weight_block_size"), list) else ()
    form = FP8_BLOCK if block else FP8_MATRIX
    if block:
        form = _sized(form, quant, "weight_block_size", block[0])
    elif static:
        form = _with(form, extras=((1, 4),))
    fp4 = text.text("expert_dtype") == "fp4"
    if quant.text("scale_fmt") == "ue8m0" and fp4:
        form = _with(form, scale_bytes=1)
    return Scheme(name="fp8", rules=(Rule(format=form),), kept=_names(quant), experts=MXFP4 if fp4 else None)


def _fbgemm(quant: Settings, text: Settings) -> Scheme:
    return Scheme(name="fbgemm_fp8", rules=(Rule(format=_with(FP8_ROW, scale_bytes=4)),), kept=_names(quant))


def _mxfp4(quant: Settings, text: Settings) -> Scheme:
    return Scheme(name="mxfp4", rules=(Rule(format=MXFP4),), kept=_names(quant), experts_only=True)


def _awq(quant: Settings, text: Settings) -> Scheme:
    form = awq(_bits(quant, "bits", "w_bit"), _group(quant, "group_size", "q_group_size"))
    return Scheme(name="awq", rules=(Rule(format=form),), kept=_names(quant))


def _gptq(quant: Settings, text: Settings) -> Scheme:
    head = frozenset({"head"}) if quant.flag("lm_head") else frozenset[str]()
    form = gptq(_bits(quant, "bits"), _group(quant, "group_size"))
    return Scheme(name="gptq", rules=(Rule(format=form),), kept=_names(quant), roles=head)


def _bitsandbytes(quant: Settings, text: Settings) -> Scheme:
    four = BNB_4BIT if quant.flag("bnb_4bit_use_double_quant") else BNB_4BIT_PLAIN
    eight = quant.flag("load_in_8bit") or quant.flag("_load_in_8bit")
    return Scheme(name="bitsandbytes", rules=(Rule(format=BNB_8BIT if eight else four),), kept=_names(quant), towers=True)


def _mlx(quant: Settings, text: Settings) -> Scheme:
    form = mlx(_bits(quant, "bits"), _group(quant, "group_size", default=64))
    if quant.text("mode") in {"mxfp4", "nvfp4", "mxfp8"}:
        form = {"mxfp4": MXFP4, "mxfp8": MXFP8, "nvfp4": _with(NVFP4, extras=())}[quant.text("mode")]
    return Scheme(name="mlx", rules=(Rule(format=form),), roles=frozenset({"embed", "head", "router"}))


def _modelopt(quant: Settings, text: Settings) -> Scheme:
    """modelopt: one algorithm for all linear layers, or one for each module that is listed."""
    algorithm = quant.text("quant_algo").upper()
    if algorithm != "MIXED_PRECISION":
        return Scheme(name="modelopt", rules=(Rule(format=_algorithm(quant, algorithm)),), kept=_names(quant, "lm_head"))
    modules: dict[str, list[str]] = {}
    for module, entry in quant.section("quantized_layers").data.items():
        if not isinstance(entry, Mapping) or len(str(module)) > 200:
            quant.refuse("quantized_layers", "must give each module an object")
        modules.setdefault(str(entry.get("quant_algo")).upper(), []).append(str(module))
    rules = [Rule(format=_algorithm(quant, name), modules=Names(entries)) for name, entries in sorted(modules.items())]
    if quant.text("quant_method") == "fp8":  # the rest of the checkpoint is DeepSeek's own
        rules.append(Rule(format=_with(FP8_BLOCK, scale_bytes=1)))
        expert = MXFP4 if text.text("expert_dtype") == "fp4" else None
        draft = [Rule(format=expert, modules=Names(["re:.*experts"]))] if expert else []
        return Scheme(name="modelopt", rules=(*rules[:-1], *draft, rules[-1]), kept=Names(["lm_head"]))
    return Scheme(name="modelopt", rules=tuple(rules), kept=_names(quant), roles=frozenset({"head"}))


def _algorithm(quant: Settings, name: str) -> Format:
    found = {
        "FP8": _with(FP8_MATRIX, extras=((1, 4),)), "FP8_PB_WO": FP8_BLOCK,
        "FP8_PER_CHANNEL_PER_TOKEN": _with(FP8_ROW, scale_bytes=4),
        "NVFP4": NVFP4, "W4A16_NVFP4": NVFP4_WEIGHTS, "NVFP4_AWQ": NVFP4, "MXFP8": MXFP8, "MXFP4": MXFP4,
        "W4A16_AWQ": awq(4, 128), "W4A8_AWQ": awq(4, 128),
    }.get(name)  # fmt: skip
    if found is None:
        quant.refuse("quant_algo", f"is `{name[:30]}`, whose stored size kvplan does not count")
    return found


def _compressed(quant: Settings, text: Settings) -> Scheme:
    """compressed-tensors: groups of modules by class or name; `Linear` means all of them, head and routers included."""
    groups = quant.section("config_groups")
    rules = []
    for name in list(groups.data)[:64]:
        group = groups.section(name)
        targets = [target for target in group.names("targets") if target not in {"Linear", "re:.*"}]
        form = _weights(group, quant.text("format"))
        if form is not None:
            rules.append(Rule(format=form, modules=Names(targets) if targets else None))
    roles = frozenset({"head", "router", "shared_gate"})
    return Scheme(name="compressed-tensors", rules=tuple(rules), kept=_names(quant), roles=roles, towers=True)


def _weights(group: Settings, outer: str) -> Format | None:
    """The format that a group's weights have."""
    weights = group.section("weights")
    if not weights.data:
        return None
    bits, kind = weights.whole("num_bits", 8, 1, 16), weights.text("type", "int")
    strategy = weights.text("strategy", "tensor")
    size = weights.whole("group_size", 128) if weights.data.get("group_size") not in (None, -1) else 0
    given = group.section("input_activations")
    inputs: tuple[tuple[int, int], ...] = ((1, 4),) if given.data and not given.flag("dynamic") else ()
    if kind == "float" and bits == 4:
        form = MXFP4 if "mxfp4" in (group.text("format") or outer) or size == 32 else NVFP4_WEIGHTS
        return form if form is MXFP4 else _with(form, extras=((1, 4), *inputs))
    if bits == 8 and (kind == "float" or "pack" not in outer):
        if strategy == "block":
            return _with(FP8_BLOCK, scale_bytes=2)
        return _with(FP8_ROW, scales="row" if strategy == "channel" else "matrix", extras=inputs)
    return packed_int(bits, size, zeros=not weights.flag("symmetric", True), row=strategy == "channel" or not size)


def _with(form: Format, **changes: Any) -> Format:
    from msgspec.structs import replace

    return replace(form, **changes)


def _sized(form: Format, quant: Settings, key: str, size: Any) -> Format:
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= 2**20:
        quant.refuse(key, "must be a list of sizes")
    return _with(form, group=size)


def _bits(quant: Settings, *keys: str) -> int:
    return next((quant.whole(key, 4, 1, 16) for key in keys if quant.has(key)), 4)


def _group(quant: Settings, *keys: str, default: int = 128) -> int:
    for key in keys:
        if quant.has(key):
            return max(0, quant.whole(key, default, -1, 2**20))
    return default


_READERS: Final[dict[str, Callable[[Settings, Settings], Scheme]]] = {
    "fp8": _fp8, "fbgemm-fp8": _fbgemm, "mxfp4": _mxfp4, "gpt-oss-mxfp4": _mxfp4, "awq": _awq, "awq-marlin": _awq, "gptq": _gptq,
    "gptq-marlin": _gptq, "auto-round": _gptq, "bitsandbytes": _bitsandbytes, "mlx": _mlx, "modelopt": _modelopt,
    "modelopt-fp4": _modelopt, "modelopt-mixed": _modelopt, "compressed-tensors": _compressed,
}  # fmt: skip
