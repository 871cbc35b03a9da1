"""The page of what 256 GB of host memory buys, from kvplan's own numbers: tools/make_reference.py writes it."""

from kvplan.domain.tiers import Tier, TierAsk, Tiers
from kvplan.engines import make_engine
from kvplan.loading import load
from kvplan.questions.tiers import tiers_of

_HOST = 256 * 10**9
_DEVICE = 40 * 2**30
_TOKENS = 32_768
_MODELS = {
    "llama-3.1-8b": (1, "every layer keeps every token: 131,072 bytes of one"),
    "gpt-oss-20b": (1, "half of the layers see a window of 128 tokens"),
    "qwen3-next-80b-a3b": (4, "three of four layers keep a state"),
    "deepseek-v3": (8, "latents, the same on every rank"),
}
_ENGINES = ("vllm", "sglang", "llama.cpp", "mlx-lm")
_KEPT = {"split": "each rank its part", "once": "one copy for all", "copied": "a copy on each rank"}
_LEAD = f"""What 256 GB (10^9) of host memory hold below the GPUs of one server, in sessions of {_TOKENS:,} tokens, with 40 GiB
of cache on each GPU: `kvplan reserve MODEL --memory 40GiB --host 256GB --sessions "1 at 32k"`. How each number is made:
[below the GPU](../guides/tiers.md). *used* is of what the engine is told, all ranks together; *beside* is what it takes in
the same memory without counting it. llama-server and mlx-lm run on one machine, whatever the number of ranks.
"""


def page(note: str) -> str:
    """The whole page."""
    parts = [note, "# What 256 GB of host memory buys\n\n", _LEAD]
    for model, (ranks, words) in _MODELS.items():
        parts.append(f"\n## {model}, {ranks} GPU{'s' if ranks > 1 else ''}\n\n{words.capitalize()}.\n\n")
        parts += _table(model, ranks)
    return "".join(parts)


def _table(model: str, ranks: int) -> list[str]:
    rows = ["| engine, tier | tokens | sessions | a session | used | beside | holds | evidence |\n", "| --- " + "| ---: " * 5]
    rows.append("| --- | --- |\n")
    refused = []
    for engine in _ENGINES:
        for row in _tiers(engine, model, ranks).rows:
            if row.refused:
                refused.append(f"- `{engine}`, {row.tier}: {row.refused}\n")
            elif row.tokens:
                rows.append(_row(engine, row))
    return [*rows, *(["\nRefused:\n\n", *refused] if refused else [])]


def _tiers(engine: str, model: str, ranks: int) -> Tiers:
    alone = engine in {"llama.cpp", "mlx-lm"}
    on = make_engine(engine, {} if alone or ranks == 1 else {"tensor_parallel": ranks}).on(load(model))
    return tiers_of(on, TierAsk(host_bytes=_HOST, tokens=_TOKENS, device_bytes=_DEVICE, slots=4))


def _row(engine: str, row: Tier) -> str:
    sizes = (f"{amount / 10**9:,.2f} GB" if amount else "" for amount in (row.session_bytes, row.used_bytes, row.beside_bytes))
    sessions = f"{row.sessions:,}" if row.sessions_high is None else f"{row.sessions:,} to {row.sessions_high:,}"
    kept = _KEPT[row.kept] if row.ranks > 1 else ""
    return f"| {engine}, {row.tier} | {row.tokens:,} | {sessions} | {' | '.join(sizes)} | {kept} | {row.evidence} |\n"
