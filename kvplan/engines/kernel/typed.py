"""Command lines: an engine's pieces with their values, options that were named, and what no flag can do."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from shlex import quote
from typing import Any, Final

from msgspec import NODEFAULT, Struct

from kvplan.domain.dtypes import ALIASES
from kvplan.domain.model import Model
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.options import fields_of

#: What a piece of a command names: `{model}`.
_NAMED: Final = r"\{(\w+)"
#: What every checkpoint can be loaded in.
_PLAIN: Final = frozenset({"float32", "bfloat16", "float16"})


class Serving(Struct, frozen=True, kw_only=True):
    """A workload that somebody wants to start an engine for, as its command line needs it."""

    model: str  # hub id, path or name, as it comes: quoting is the command's business
    context: int  # tokens of a request
    batch_size: int  # requests held at once, by one replica
    utilization: float = 1.0
    replicas: int = 1
    options: Mapping[str, Any] = {}  # what was asked for by name
    use: str = ""  # what it serves, where that is known beside the model: embed, rerank
    weights_dtype: str = ""  # the format that the weights are wanted in, where the checkpoint is in another


def written_command(
    about: About, serving: Serving, kv_dtype: str, devices: int, more: Iterable[str] = (), environment: Iterable[str] = ()
) -> str:
    """An engine's command line from the pieces of its `About`; a piece whose value is missing is left out.

    Args:
        about: the engine.
        serving: what it is started for.
        kv_dtype: of its cache.
        devices: that split the model.
        more: flags beside the pieces, as they are typed.
        environment: variables before the program, as they are typed.
    """
    known = about.data_ranks
    asked = {"kv_dtype", about.roles.get("kv_dtype"), *about.also.get("kv_dtype", ())} & serving.options.keys()
    values: dict[str, Any] = {
        "model": quote(serving.model),
        "context": serving.context,
        "batch_size": serving.batch_size,
        "utilization": f"{serving.utilization:g}",
        "kv_dtype_flag": about.cache_dtypes.get(ALIASES.get(kv_dtype, kv_dtype), "") if asked else "",
        "tensor_parallel": devices if devices > 1 else "",
        "stages": serving.options.get(about.roles.get("stages", ""), ""),
        "replicas": serving.replicas if serving.replicas > 1 and (known is None or known.ranks(serving.options) == 1) else "",
        "data_ranks": known.flags(serving.options) if known is not None else "",
    }
    named = {piece: re.findall(_NAMED, piece) for piece in about.command}
    pieces = (piece.format(**values) for piece in about.command if all(values[name] != "" for name in named[piece]))
    return " ".join([*environment, "".join(pieces), *more])


def own_flags(options: Struct, given: Collection[str], *, beside: Collection[str], negated: bool) -> Iterator[str]:
    """The options that were named, as flags: `max_num_batched_tokens` is `--max-num-batched-tokens 2048`.

    Args:
        options: the engine's, with their values.
        given: names that were asked for.
        beside: names that are typed elsewhere, or nowhere.
        negated: a flag can be switched off as `--no-FLAG`.
    """
    for item in fields_of(type(options)).values():
        if item.name not in given or item.name in beside:
            continue
        value, flag = getattr(options, item.name), "--" + item.name.replace("_", "-")
        if value is True:
            yield flag
        elif value is False:
            if negated and item.default is not False:
                yield flag.replace("--", "--no-", 1)
        elif value is not None and value != "" and value is not NODEFAULT:
            yield f"{flag} {quote(f'{value:g}' if isinstance(value, float) else str(value))}"


def weights_flag(about: About, serving: Serving) -> str:
    """The flag that loads a checkpoint's weights in the format that was asked for; empty where there is none, or no need."""
    wanted = ALIASES.get(serving.weights_dtype, serving.weights_dtype)
    return about.weight_flags.get(wanted, "")


def checkpoint_needed(about: About, serving: Serving) -> tuple[str, ...]:
    """What no flag does: weights in a format that must be in the checkpoint."""
    wanted = ALIASES.get(serving.weights_dtype, serving.weights_dtype)
    if not wanted or wanted in _PLAIN or wanted in about.weight_flags:
        return ()
    return (f"needs a checkpoint in {serving.weights_dtype}",)


def hub_name(model: Model) -> str:
    """A model as an engine is given it: its hub id where one is known, else its name."""
    return model.hub or model.name
