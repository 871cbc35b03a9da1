"""What a prompt's forward pass holds at its widest, of transformers' own code on tensors without data.

    python tools/recorders/transformers/peaks.py OUT.jsonl CONFIG.json ...

Needs torch and transformers. Models are built on the meta device with at most four layers; every storage that an operation
makes is counted as PyTorch's CUDA allocator counts it (`kvplan.domain.caching_allocator`), until Python lets it go. A fused
attention is counted as CUDA's kernels allocate: the output and its log-sum, or a mask in numbers. A class whose code asks for a
tensor's values cannot run so. Of the eight passes recorded on an H200 (`transformers_gpu.jsonl`, release 5.17.0) six come out
to the byte, gpt-oss 1 MiB and Falcon-H1 128 KiB below.
"""

import gc
import json
import sys
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from kvplan.domain.caching_allocator import Allocator

BATCH, TOKENS, LAYERS = 2, 4096, 4
_FLASH_HEAD = 256
_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


class Storages(TorchDispatchMode):
    """Counts the storages that operations make, while they are alive."""

    def __init__(self, held: list[torch.Tensor]) -> None:
        super().__init__()
        self.allocator = Allocator()
        self._known = weakref.WeakSet(tensor.untyped_storage() for tensor in held)
        self._held = [tensor.untyped_storage() for tensor in held]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "meta":
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: Any) -> None:
        if storage not in self._known:
            self._known.add(storage)
            weakref.finalize(storage, self.allocator.give, self.allocator.take(storage.nbytes()))


class Attention(TorchFunctionMode):
    """`scaled_dot_product_attention` as CUDA's flash and memory-efficient kernels allocate."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return _fused(*args, **kwargs) if func is F.scaled_dot_product_attention else func(*args, **kwargs)


def _fused(query: Any, key: Any, value: Any, attn_mask: Any = None, enable_gqa: bool = False, **_: Any) -> Any:
    sequences, heads, tokens, size = query.shape
    held = []
    flash = attn_mask is None and size == value.shape[-1] <= _FLASH_HEAD
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        held.append(torch.empty(attn_mask.shape, dtype=query.dtype, device="meta"))
    if not flash and enable_gqa:
        held += [one.repeat_interleave(heads // one.shape[1], 1) for one in (key, value)]
    out = torch.empty((sequences, tokens, heads, value.shape[-1]), dtype=query.dtype, device="meta").transpose(1, 2)
    if flash:
        held.append(torch.empty((sequences, heads, tokens), dtype=torch.float32, device="meta"))
    return out


def cut(config: dict[str, Any]) -> dict[str, Any]:
    """The config with its first layers alone, and nothing quantised."""
    layers = next(config[name] for name in _COUNTS if name in config)
    kept = {k: v[:LAYERS] if isinstance(v, list) and len(v) == layers else v for k, v in config.items()}
    kept |= {name: min(layers, LAYERS) for name in _COUNTS if name in config}
    for gone in ("quantization_config", "auto_map", "num_nextn_predict_layers"):
        kept.pop(gone, None)
    return kept


def peak(config: dict[str, Any]) -> dict[str, Any]:
    """One row."""
    made = transformers.AutoConfig.for_model(**config)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16).eval()
    ids = torch.zeros((BATCH, TOKENS), dtype=torch.long, device="meta")
    gc.collect()
    gc.disable()
    storages = Storages([*model.parameters(), *model.buffers(), ids])
    with torch.no_grad(), Attention(), storages:
        model(ids, use_cache=True, logits_to_keep=1)
    gc.enable()
    return {
        "config": config,
        "engine_version": transformers.__version__,
        "attn_implementation": model.config._attn_implementation,
        "batch": BATCH,
        "prefill": TOKENS,
        "peak_bytes": storages.allocator.peak,
    }


def main() -> None:
    warnings.filterwarnings("ignore")
    with Path(sys.argv[1]).open("w") as out:
        for name in sys.argv[2:]:
            try:
                out.write(json.dumps(peak(cut(json.loads(Path(name).read_text())))) + "\n")
            except Exception as problem:  # a class that asks for values, or takes no such call
                print(f"{name}: {type(problem).__name__}: {str(problem)[:120]}", file=sys.stderr)


if __name__ == "__main__":
    main()
