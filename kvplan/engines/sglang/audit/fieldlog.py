"""Field logs of SGLang: sizes that people's servers printed, from the tokens and slots beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.model import Model
from kvplan.engines.kernel.cases import Case, InvalidCase, Read, of_equal_layers, whole
from kvplan.engines.kernel.options import build_options
from kvplan.engines.sglang.about import ABOUT
from kvplan.engines.sglang.arguments import settle
from kvplan.engines.sglang.audit.configs import spelled_out
from kvplan.engines.sglang.audit.printed import sizes, tokens_of
from kvplan.engines.sglang.options import SglangOptions
from kvplan.errors import UnknownArchitecture

_COUNTS: Final = ("num_tokens", "full_tokens", "swa_tokens")
_SIZES: Final = ("k_gib_printed", "v_gib_printed", "kv_gib_printed")
_FLAGS: Final = ("page_size", "mem_fraction_static", "swa_full_tokens_ratio")
#: A model whose layers are all alike, by its dimensions.
_DIMENSIONS: Final = ("num_hidden_layers", "num_key_value_heads", "head_dim")


def asked(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The tokens, from which sizes are predicted, and the sizes, from which the tokens are."""
    counts = {name: whole(expected[name], name, 1) for name in _COUNTS if expected.get(name) is not None}
    shown = {name: expected[name] for name in _SIZES if isinstance(expected.get(name), int | float)}
    return {"counts": counts, "shown": shown}


def predict(case: Case, asked: Mapping[str, Any], read: Read) -> dict[str, Any] | NotPredicted:
    """The printed sizes in bytes, and the tokens that they leave possible."""
    if "model_type" not in case.config:
        return NotPredicted(reason="the record holds no config that describes the model")
    args = settle(_model(case, read), _options(case))
    counts = dict(asked["counts"])
    if case.options.get("max_mamba_cache_size") is not None:
        counts["slots"] = case.option("max_mamba_cache_size", minimum=1)
    found: dict[str, Any] = dict(sizes(args, counts))
    tokens = tokens_of(args, asked["shown"])
    return found | ({"num_tokens": tokens} if tokens is not None else {})


def _model(case: Case, read: Read) -> Model:
    """The model, by its dimensions where no family knows its type: a drafter's config says little more."""
    try:
        return read(spelled_out(case.config), "")
    except UnknownArchitecture:
        if not all(name in case.config for name in _DIMENSIONS):
            raise
    return of_equal_layers(case.model, *(case.config[name] for name in _DIMENSIONS))


def _options(case: Case) -> Any:
    given = case.options
    found: dict[str, Any] = {name: given[name] for name in _FLAGS if given.get(name) is not None}
    found["tp_size"] = case.option("tp", default=1, minimum=1)
    dtype = given.get("kv_dtype", "auto")
    if not isinstance(dtype, str):
        raise InvalidCase("`options.kv_dtype` must be a text")
    found["kv_cache_dtype"] = dtype.partition(" ")[0]
    return build_options(SglangOptions, found, engine=ABOUT.name)
