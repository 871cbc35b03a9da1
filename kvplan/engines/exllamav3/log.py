"""The lines that TabbyAPI prints of a cache's size, and what to type to get it.

Source: tabby `backends/exllamav3/model.py:create` (commit e632af4), `common/config_models.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from shlex import quote

from kvplan.engines.exllamav3.options import ExLlamaV3Options

PROGRAM = "python main.py"


def lines(max_seq_len: int, cache_size: int, *, from_model: bool = False) -> Iterator[str]:
    """What it prints where both sizes were typed, or the length came from the model's config."""
    if from_model:
        yield f"Using default max_seq_len from model: {max_seq_len} tokens."
    else:
        yield f"Using configured max_seq_len: {max_seq_len} tokens."
    yield f"Using configured cache_size: {cache_size} tokens."
    if max_seq_len > cache_size:
        yield (f"The given max_seq_len ({max_seq_len}) is larger than the cache size and will be limited to {cache_size} tokens.")


def flags(options: ExLlamaV3Options, *, max_seq_len: int, cache_size: int, max_batch_size: int) -> str:
    """TabbyAPI's options for a cache, the model left out; what is at its default is left out too."""
    found = [f"--max-seq-len {max_seq_len}", f"--cache-size {cache_size}", f"--max-batch-size {max_batch_size}"]
    if options.mode.quantised:
        found.append(f"--cache-mode {options.mode}")
    if options.chunk_size != ExLlamaV3Options().chunk_size:
        found.append(f"--chunk-size {options.chunk_size}")
    if options.tensor_parallel > 1:
        found.append("--tensor-parallel true")
    if options.cards:
        found.append("--gpu-split " + " ".join(f"{size:g}" for size in options.cards))
    found += _drafting(options)
    if options.sysmem_kv_cache:
        found.append(f"--sysmem-kv-cache {options.sysmem_kv_cache}")
    if options.sysmem_recurrent_cache != ExLlamaV3Options().sysmem_recurrent_cache:
        found.append(f"--sysmem-recurrent-cache {options.sysmem_recurrent_cache}")
    return " ".join(found)


def _drafting(options: ExLlamaV3Options) -> Iterator[str]:
    if options.draft_mode == "model" and options.draft is None:
        return
    if options.draft_mode == "model" and options.draft is not None:
        yield f"--draft-model-name {quote(PurePosixPath(options.draft.name).name)}"
    else:
        yield f"--draft-mode {options.draft_mode}"
    if options.draft_mode in {"model", "mtp"} and options.draft_mode_of_cache.quantised:
        yield f"--draft-cache-mode {options.draft_mode_of_cache}"
    if options.draft_num_tokens is not None:
        yield f"--draft-num-tokens {options.draft_num_tokens}"


def model_flags(model: str) -> str:
    """What names a model: a folder in the folder of models, whatever its hub id is."""
    path = PurePosixPath(model)
    folder = f"--model-dir {quote(str(path.parent))} " if path.is_absolute() or model.startswith(".") else ""
    return f"{folder}--model-name {quote(path.name or model)}"
