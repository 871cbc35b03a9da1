"""What a server was told that decides its steps, and the pool of cells that its requests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.pool import Pool
from kvplan.engines.kernel.releases import written
from kvplan.engines.llama_cpp.about import ABOUT
from kvplan.engines.llama_cpp.builds import COUNTED, build
from kvplan.engines.llama_cpp.context import Context, Refusal, make_context
from kvplan.engines.llama_cpp.memory import Params
from kvplan.engines.llama_cpp.on import OnModel
from kvplan.engines.llama_cpp.options import AUTO
from kvplan.engines.llama_cpp.tiers import saved
from kvplan.errors import Refused
from kvplan.units import MIB

_SEE: Final = "docs/guides/replay.md says what is followed"
#: How much of a prompt a slot must hold to be chosen for it (`--slot-prompt-similarity`, common/common.h).
SIMILARITY: Final = 0.1
#: Tokens before a prompt's end at which its last parts begin where the model makes checkpoints: this, and this and a micro-batch.
_LAST: Final = 4


class Settings(Struct, frozen=True, kw_only=True):
    """Counts of tokens, which are cells of the cache, too."""

    slots: int
    cells: int  # of all slots
    context: int  # of one slot
    unified: bool  # slots share the cells
    batch: int
    cuts: tuple[int, ...]  # tokens before a prompt's end at which a batch of it ends
    reuses: bool  # a slot goes on from any token of its prompt
    cache_bytes: int  # host memory for prompts of slots; 0: none, -1: no limit
    state_bytes: Callable[[int], int]  # of a sequence of so many tokens


def settings_of(on: OnModel, params: Params[int]) -> tuple[Settings, Context[int]]:
    """The slots of a server that makes its context with `params`.

    Raises:
        Refused: it makes none, or its steps are not written down.
    """
    options, h = on.engine.options, on.hparams
    if on.engine.release <= build(COUNTED):  # slots, the prompt cache and their defaults came one by one
        steps = f"the steps of llama-server {written(on.engine.release)} are not written down, only those of {ABOUT.latest}"
        raise Refused(steps, "-e llama.cpp, or `kvplan fit`, which knows that build")
    if options.frontend != "server":
        raise Refused(f"the steps of llama.cpp's front end `{options.frontend}` are not written down, only llama-server's", _SEE)
    if options.draft is not None or options.spec_type not in {None, "none"} or options.ctx_type == "mtp":
        raise Refused("the steps of llama-server with drafts are not written down", _SEE)
    context = make_context(h, params)
    if isinstance(context, Refusal):
        raise Refused(f"llama.cpp refuses: {context.message}")
    part = saved(h, context, 1).checkpoint > 0 and not (options.keeps_all and h.has_swa)
    checkpoints = part and options.ctx_checkpoints > 0
    limit = options.cache_ram
    return (
        Settings(
            slots=context.n_seq_max,
            cells=context.n_ctx,
            context=min(context.n_ctx_seq, h.context_length or context.n_ctx_seq),
            unified=params.kv_unified,
            batch=int(context.n_batch),
            cuts=(_LAST + int(context.n_ubatch), _LAST) if checkpoints else (),
            reuses=not part,
            cache_bytes=limit * MIB if limit > 0 else limit,
            state_bytes=lambda tokens: saved(h, context, tokens).whole,
        ),
        context,
    )


def told(on: OnModel) -> Params[int]:
    """The parameters of a server that nobody told how long and how many: 4 slots that share the model's whole length."""
    options = on.engine.options
    parallel = AUTO if options.parallel is None else options.parallel
    options = replace(options, parallel=parallel, ctx_size=options.ctx_size or 0)
    if not options.ctx_size and not on.hparams.context_length:
        raise Refused("the model's own length is not known", see="give a ctx_size")
    return replace(
        on.params(1, 1),
        n_ctx=options.ctx_size or on.hparams.context_length,
        n_seq_max=options.sequences or 1,
        kv_unified=options.unified,
    )


def pool_of(on: OnModel, settings: Settings, context: Context[int], budget_bytes: int) -> Pool:
    """The cells as a pool; refused where the budget does not hold them."""
    total = int(context.total_bytes)
    short = f"its context of {settings.cells:,} cells takes {total:,} bytes, and {budget_bytes:,} are left for it"
    return Pool(
        engine=on.engine.name,
        budget_bytes=budget_bytes,
        num_blocks=settings.cells,
        block_bytes=total // settings.cells,
        num_tokens=settings.cells,
        max_model_len=settings.context,
        concurrency=settings.cells / settings.context,
        refused=short if total > budget_bytes else "",
        model=on.model.name,
        engine_version=on.engine.version,
    )
