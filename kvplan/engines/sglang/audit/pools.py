"""Facts of single pools: rows of a size that the record gives, states of so many slots, or a budget shared out."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, Final

from msgspec.structs import replace

from kvplan.domain.model import Model
from kvplan.engines.kernel.cases import Case, InvalidCase, Read
from kvplan.engines.kernel.options import build_options
from kvplan.engines.sglang import states
from kvplan.engines.sglang.about import ABOUT
from kvplan.engines.sglang.arguments import Arguments, settle
from kvplan.engines.sglang.audit.configs import spelled_out
from kvplan.engines.sglang.layers import layout
from kvplan.engines.sglang.models import with_own_windows
from kvplan.engines.sglang.options import SglangOptions
from kvplan.engines.sglang.pool import from_budget, index_rows
from kvplan.engines.sglang.tensors import Tensor, tensor_bytes

_STATES: Final = "conv bf16 / ssm "
_STATE_DTYPES: Final = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def predict(case: Case, read: Read) -> dict[str, Any]:
    """What the record's pool, or its sizing, comes to."""
    model = read(spelled_out(case.config), case.model)
    args = settle(model, _options(case))
    work = case.workload
    if "mamba_slots" in work:
        return _states_of(args, case.count("mamba_slots", minimum=1))
    if "budget_bytes" in work:
        sizes = from_budget(args, case.count("budget_bytes", minimum=1)).sizes
        return {"cell_size": sizes.cell, "full_tokens": sizes.full_tokens, "swa_tokens": sizes.sliding_tokens}
    if "pool_tokens" in work:
        return _rows_of(args, model, case)
    return {"bytes_per_token_per_rank": layout(args).cell}


def _options(case: Case) -> Any:
    given = case.options
    found: dict[str, Any] = {"tp_size": case.option("tp", default=1, minimum=1)}
    found |= {name: given[name] for name in ("page_size", "swa_full_tokens_ratio") if given.get(name) is not None}
    dtype = given.get("kv_dtype", "auto")
    if not isinstance(dtype, str):
        raise InvalidCase("`options.kv_dtype` must be a text")
    if dtype.startswith(_STATES):
        found["mamba_ssm_dtype"] = _STATE_DTYPES.get(dtype.removeprefix(_STATES), "")
    else:
        found["kv_cache_dtype"] = dtype
    return build_options(SglangOptions, found, engine=ABOUT.name)


def _states_of(args: Arguments, size: int) -> dict[str, Any]:
    one = states.state(args)
    if one is None:
        raise InvalidCase("the record is of states, and the model has none")
    layers = len(args.reading.state_layers)
    found = states.allocated(args, one, size, 0, 0)
    return {
        "conv_bytes": found.conv,
        "ssm_bytes": found.temporal,
        "total_bytes": found.conv + found.temporal,
        "conv_shapes": [[layers, size + 1, *shape] for shape in one.conv],
        "temporal_shape": [layers, size + 1, *one.temporal],
        "mamba_cache_per_req_bytes": one.layer_bytes * layers,
    }


def _rows_of(args: Arguments, model: Model, case: Case) -> dict[str, Any]:
    tokens, page = case.count("pool_tokens", minimum=1), args.options.page_size or args.page_size
    if "swa_pool_tokens" in case.workload and not args.reading.sliding:  # the record's geometry was laid out by hand
        args = replace(args, reading=with_own_windows(model, args.reading))
    args = replace(args, page_size=page)
    tensors = layout(args).tensors
    rows: dict[str, int] = {"full": tokens + page, "index": index_rows(args, tokens)}
    rows["sliding"] = case.count("swa_pool_tokens", default=0) + page
    sums = _sums(tensors, rows, page)
    facts: dict[str, Any] = {
        "rows": tokens + page,
        "total_bytes": sum(sums.values()),
        "reported_bytes": sum(sums.values()),
        "k_bytes": sums.get(("full", "key"), 0),
        "v_bytes": sums.get(("full", "value"), 0),
        "full_pool_k_v_bytes": [sums.get(("full", kind), 0) for kind in ("key", "value")],
        "swa_pool_k_v_bytes": [sums.get(("sliding", kind), 0) for kind in ("key", "value")],
    }
    for tensor in tensors:
        if tensor.kind == "latent":
            facts |= {"latent_bytes": sums["full", "latent"], "latent_row_shape": [rows["full"], *tensor.row]}
        if tensor.kind == "index":
            facts |= {"index_bytes": sums["index", "index"], "index_shape": [rows["index"], prod(tensor.row)]}
    return facts


def _sums(tensors: tuple[Tensor, ...], rows: Mapping[str, int], page: int) -> dict[tuple[str, str], int]:
    sums: dict[tuple[str, str], int] = {}
    for tensor in tensors:
        key = (tensor.place, tensor.kind)
        sums[key] = sums.get(key, 0) + tensor_bytes(tensor, rows[tensor.place], page)
    return sums
