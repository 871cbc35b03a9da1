"""Facts of recorded llama.cpp contexts: what `llama_init_from_model` normalised and allocated, or that it failed.

`config` holds GGUF keys, or a hub config, which then goes through the converter's mapping. Cases of the Python class
`llama_cpp.Llama` carry its arguments in `options.python_kwargs`; its own defaults are predicted from them.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.dtypes import lookup
from kvplan.engines.kernel import media_cases
from kvplan.engines.kernel.cases import Case, Covered, InvalidCase, Read, whole
from kvplan.engines.kernel.releases import parse_version
from kvplan.engines.kernel.verdicts import Banded
from kvplan.engines.llama_cpp.about import ABOUT
from kvplan.engines.llama_cpp.audit import devices, fitting, gpu_logs, images, tiers
from kvplan.engines.llama_cpp.builds import LATEST, STREAMS
from kvplan.engines.llama_cpp.context import Context, Refusal, make_context
from kvplan.engines.llama_cpp.convert import gguf_keys
from kvplan.engines.llama_cpp.memory import CACHE_TYPES, Params, Part
from kvplan.engines.llama_cpp.options import LlamaCppOptions
from kvplan.engines.llama_cpp.placement.compute import compute
from kvplan.engines.llama_cpp.placement.place import Asked, place
from kvplan.engines.llama_cpp.releases import between
from kvplan.errors import GgufError
from kvplan.gguf.ggml import GGML_TYPES
from kvplan.gguf.hparams import Hparams, read_hparams
from kvplan.gguf.known import DRAFTERS
from kvplan.gguf.memories import model_from_hparams

_TOTALS: Final = (
    "total_bytes", "k_bytes", "v_bytes", "state_bytes", "n_ctx", "n_ctx_seq", "n_seq_max", "n_batch", "n_ubatch",
    "output_buffer_bytes",
)  # fmt: skip
#: Sizes of a cache object, by the roles of its tensors.
_ROLES: Final = {f"{role}_bytes": (role,) for role in "kvrsp"} | {"bytes": ("state",)}
_PART: Final = ("name", "cells", "streams", "n_layers")


def recorded(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the engine made the context, its totals, and each cache object; by device, where devices were asked about."""
    if tiers.is_tier(case):
        return tiers.recorded(expected)
    if fitting.is_fit(case):
        return fitting.recorded(expected)
    if devices.is_placement(case):
        return devices.recorded(expected)
    if media_cases.is_media(case):
        return media_cases.recorded(expected)
    if gpu_logs.is_gpu_log(case):
        return gpu_logs.recorded(expected)
    facts = {name: expected[name] for name in ("ok", *_TOTALS, "compute_buffer_bytes") if expected.get(name) is not None}
    parts = expected.get("parts", [])
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise InvalidCase("`expected.parts` must be a list of objects")
    for i, part in enumerate(parts):
        facts |= {f"parts[{i}].{name}": part[name] for name in (*_PART, *_ROLES) if name in part}
        if "layers" in part:  # compressor states call it so
            facts[f"parts[{i}].n_layers"] = part["layers"]
    return facts


def asked(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """What a log of real cards says of the machine."""
    return gpu_logs.asked(expected) if gpu_logs.is_gpu_log(case) else {}


def as_recorded(name: str, predicted: Any, recorded: Any) -> Any:
    """Printed sizes as the log prints them."""
    return gpu_logs.as_recorded(name, predicted, recorded)


def predict(case: Case, asked: Mapping[str, Any], read: Read) -> Mapping[str, Any] | NotPredicted:
    """The same facts from the keys and the parameters; only `ok` where the engine refuses."""
    if media_cases.is_media(case):
        return images.predict(case)
    keys = _keys(case, read)
    try:
        h = read_hparams(keys, case.id)
    except GgufError:
        return {"ok": False}
    if h.arch in DRAFTERS:
        return NotPredicted(reason=f"a {h.arch} drafter works in another model's context, which was not studied")
    params = _params(case, h)
    if gpu_logs.is_gpu_log(case):
        return gpu_logs.predict(case, asked, h, params)
    if fitting.is_fit(case):
        return fitting.predict(case, h, params)
    context = make_context(h, params)
    if isinstance(context, Refusal):
        return {"refused": True} if tiers.is_tier(case) else {"ok": False}
    if tiers.is_tier(case):
        return tiers.predict(case, h, context)
    if devices.is_placement(case):
        return devices.predict(case, h, context, quantised=_quantised(params))
    facts: dict[str, Any] = {"ok": True} | {name: getattr(context, name) for name in _TOTALS}
    for i, part in enumerate(context.parts):
        facts |= {f"parts[{i}].{name}": value for name, value in _part_facts(part, context).items()}
    alone = place(h, context, (), Asked(), ())
    if not isinstance(alone, Refusal):
        band = compute(h, context, alone, quantised=_quantised(params))[-1]
        facts["compute_buffer_bytes"] = Banded(best=band.best, low=band.low, high=band.high)
    return facts


def _quantised(params: Params[int]) -> bool:
    return any(lookup(CACHE_TYPES[kind]).block > 1 for kind in (params.type_k, params.type_v))


def covers(case: Case, facts: Collection[str], read: Read) -> Covered | None:
    """What a record of a context holds: the memories of its keys, on the CPU; a refusal holds none."""
    if "total_bytes" not in facts:
        return None
    h = read_hparams(_keys(case, read), case.id)
    params, release = _params(case, h), parse_version(ABOUT.latest)  # the one commit that was recorded
    kinds = (lookup(CACHE_TYPES[kind]).name for kind in (params.type_k, params.type_v))
    model = model_from_hparams(h, source=case.id, name=case.id)
    return Covered(model=model, stored="/".join(dict.fromkeys(kinds)), release=release)


def _part_facts(part: Part[int], context: Context[int]) -> dict[str, Any]:
    """One cache object; a compressor state counts its streams without the rows for rolling back."""
    is_state = part.name.endswith("_state")
    facts: dict[str, Any] = {"name": part.name, "cells": part.cells, "n_layers": part.n_layers}
    facts["streams"] = context.n_seq_max if is_state else part.streams
    return facts | {name: part.sum(*roles) for name, roles in _ROLES.items()}


def _keys(case: Case, read: Read) -> Mapping[str, Any]:
    if not case.config:
        raise InvalidCase("`config` is missing or empty: GGUF keys, or a hub config, are needed")
    if gpu_logs.is_gpu_log(case):
        return gpu_logs.keys_of(case)
    if "general.architecture" in case.config:
        return case.config
    return gguf_keys(read(case.config, ""))


def _params(case: Case, h: Hparams) -> Params[int]:
    arguments = case.options.get("python_kwargs")
    if isinstance(arguments, Mapping):
        return _python_params(arguments, h)
    o = case.options
    release = between(case.engine_version)[0] if gpu_logs.is_gpu_log(case) else LATEST
    if isinstance(o.get("flash_attn"), bool):  # as a log says it
        o = {**o, "flash_attn": "on" if o["flash_attn"] else "off"}
    return Params(
        n_ctx=case.option("n_ctx", default=512) or h.context_length,
        n_seq_max=case.option("n_seq_max", default=1),
        n_batch=case.option("n_batch", default=2048, minimum=1),
        n_ubatch=case.option("n_ubatch", default=512),
        n_rs_seq=case.option("n_rs_seq", default=0),
        kv_unified=_flag(o, "kv_unified", default=not STREAMS.at(release)),
        release=release,
        swa_full=_flag(o, "swa_full", default=not gpu_logs.is_gpu_log(case)),
        flash_attn=_options(flash_attn=o.get("flash_attn")).flash,
        type_k=_options(cache_type_k=o.get("type_k")).type_k,
        type_v=_options(cache_type_v=o.get("type_v")).type_v,
        ctx_type="mtp" if o.get("ctx_type") == "mtp" else "default",
        embeddings=_flag(o, "embeddings", default=False),
    )


def _flag(options: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = options.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidCase(f"`options.{name}` must be true or false")
    return value


def _options(**given: Any) -> LlamaCppOptions:
    """Options by name; what is absent has the library's default."""
    for name, value in given.items():
        if value is not None and not isinstance(value, str):
            raise InvalidCase(f"`options.{name}` must be a text")
    return LlamaCppOptions(frontend="library", **{name: value for name, value in given.items() if value is not None})


def _python_params(arguments: Mapping[str, Any], h: Hparams) -> Params[int]:
    """`llama_cpp.Llama(...)`: its own defaults, and ggml's numbers for types."""

    def number(name: str, default: int) -> int:
        value = arguments.get(name)
        return default if value is None else whole(value, f"options.python_kwargs.{name}")

    def cache_type(name: str) -> str | None:
        value = arguments.get(name)
        row = GGML_TYPES.get(whole(value, f"options.python_kwargs.{name}")) if value is not None else None
        return row[0] if row else None

    options = LlamaCppOptions(
        frontend="python",
        batch=number("n_batch", 512),
        ubatch_size=number("n_ubatch", 512),
        cache_type_k=cache_type("type_k"),
        cache_type_v=cache_type("type_v"),
        flash_attn="on" if _flag(arguments, "flash_attn", default=False) else "off",
        swa_full=_flag(arguments, "swa_full", default=True),
        embeddings=_flag(arguments, "embedding", default=False),
    )
    return Params(
        n_ctx=number("n_ctx", 512) or h.context_length,
        n_seq_max=options.sequences or 1,
        n_batch=options.n_batch,
        n_ubatch=options.n_ubatch,
        kv_unified=options.unified,
        swa_full=options.keeps_all,
        flash_attn=options.flash,
        type_k=options.type_k,
        type_v=options.type_v,
        embeddings=options.embeddings,
    )
