"""Facts of recorded LMDeploy plans: blocks, slots and reserves of its PyTorch engine, and TurboMind's block layout.

TurboMind's rows name no model: their workload gives the heads. `transformers` of a row stands in its `how`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from kvplan.engines.kernel.cases import Case, Covered, InvalidCase, Read, whole
from kvplan.engines.kernel.options import build_options
from kvplan.engines.lmdeploy.engine import Lmdeploy
from kvplan.engines.lmdeploy.layers import make_plan
from kvplan.engines.lmdeploy.options import LmdeployOptions
from kvplan.engines.lmdeploy.pool import reserve
from kvplan.engines.lmdeploy.turbomind import layer_block
from kvplan.errors import OptionError, Refused

#: Lists for reading, and the engine's words.
_FOR_READING: Final = frozenset({"tensors", "states", "pools", "refused"})
_TRANSFORMERS: Final = re.compile(r"transformers (\d+(?:\.\d+){1,2})")


def recorded(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Every number of the record; of a refusal, that it is one."""
    if expected.get("ok") is False:
        return {"ok": False}
    return {name: value for name, value in expected.items() if name not in _FOR_READING}


def predict(case: Case, asked: Mapping[str, Any], read: Read) -> dict[str, Any]:
    """The facts of a plan and of the memory that it is given."""
    try:
        if case.options.get("backend") == "turbomind":
            return _turbomind(case)
        return _pytorch(case, read)
    except Refused:
        return {"ok": False}


def _options(case: Case) -> LmdeployOptions:
    given = dict(case.options)
    if "num_speculative_tokens" in given:
        given["speculative_num_draft_tokens"] = given.pop("num_speculative_tokens")
    machine = {"device_name": "gpu", "flash_mla": "flash_mla", "bf16": "bf16"}
    given |= {option: case.workload[key] for option, key in machine.items() if key in case.workload}
    beside = _TRANSFORMERS.search(case.how)
    if beside:
        given["transformers"] = beside[1]
    try:
        options: LmdeployOptions = build_options(LmdeployOptions, given, engine="lmdeploy")
    except OptionError as problem:
        raise Refused(str(problem)) from problem
    return options


def _pytorch(case: Case, read: Read) -> dict[str, Any]:
    options = _options(case)
    plan = make_plan(read(case.config, case.model), options)
    found = reserve(plan, options, case.count("free_bytes"))
    kv = found.num_blocks * plan.block_bytes
    return {
        "ok": True,
        "total_bytes": kv + found.state_bytes,
        "kv_bytes": kv,
        "state_bytes": found.state_bytes,
        "block_bytes": plan.block_bytes,
        "num_blocks": found.num_blocks,
        "tokens": found.num_blocks * plan.block_size,
        "block_size": plan.block_size,
        "kernel_block_size": plan.kernel_block_size,
        "max_batch_size": found.max_batch_size,
        "max_prefill_token_num": found.max_prefill_token_num,
        "runtime_bytes": found.runtime_bytes,
        "state_slot_bytes": plan.state_slot_bytes,
        "num_state_caches": found.num_state_caches,
        "num_layers": plan.num_layers,
        "kv_heads_total": plan.kv_heads_total,
        "k_head_dim": plan.k_head_dim,
        "v_head_dim": plan.v_head_dim,
        "dtype": plan.dtype,
        "window_size": plan.window_size,
        "prefix_caching": found.prefix_caching,
        "use_flash_mla": plan.use_flash_mla,
        "vocab_size": plan.vocab_size,
    }


def covers(case: Case, facts: Collection[str], read: Read) -> Covered | None:
    """What a plan of the PyTorch engine holds; TurboMind's blocks are of no model, and a refusal holds none."""
    if case.options.get("backend") == "turbomind" or "block_bytes" not in facts:
        return None
    on = Lmdeploy(_options(case), case.engine_version or None).on(read(case.config, case.model))
    return Covered(model=on.read, stored=on.stored, release=on.engine.release, maker="nvidia")  # the card that was emulated


def _turbomind(case: Case) -> dict[str, Any]:
    options = _options(case)
    heads = case.count("kv_heads", minimum=1) // options.tp
    tokens = whole(case.options.get("cache_block_seq_len", 64), "options.cache_block_seq_len", 1)
    found = layer_block(case.count("head_dim", minimum=1), heads, tokens, options.policy)
    if case.count("attention_layers", default=1) < 1:
        raise InvalidCase("`workload.attention_layers` must be at least 1")
    return {
        "ok": True,
        "layer_block_bytes": found.bytes,
        "head_data_bytes": found.head_data_bytes,
        "head_param_bytes": found.head_param_bytes,
    }
