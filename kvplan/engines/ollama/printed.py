"""What Ollama prints of memory: sizes in its two spellings, and what `ollama ps` makes of llama-server's lines.

Source: ollama 0.32.15 (fb3076099), `format/bytes.go`, `llm/llama_server.go` (`memoryParsingWriter`, `MemorySize`),
`cmd/cmd.go` (`ListRunningHandler`).
"""

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

_DECIMAL: Final = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))
_BINARY: Final = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_BUFFER: Final = re.compile(
    r"(?:^|\n)[^\n:]*?([A-Za-z_][A-Za-z0-9_]*):\s+(\S+)\s+(model|KV|compute|output|RS)\s+buffer size\s*=\s*([0-9.]+)\s*MiB",
    re.MULTILINE | re.ASCII,
)
_OFFLOADED: Final = re.compile(r"offloaded\s+(\d+)/(\d+)\s+layers to GPU", re.ASCII)
_OVERFLOWING: Final = re.compile(r"common_params_fit_impl:\s+-\s+.+:\s+\d+\s+layers\s+\(\s*(\d+)\s+overflowing\)", re.ASCII)
#: Digits of a number in a log that are believed.
_DIGITS: Final = 15


def human_bytes(size: int) -> str:
    """A size as `ollama ps` and `ollama list` print it: decimal, cut off from 10 on.

    >>> human_bytes(5_368_709_120), human_bytes(17_179_869_184), human_bytes(2_000_000_000)
    ('5.4 GB', '17 GB', '2 GB')
    """
    for unit, word in _DECIMAL:
        if size >= unit:
            value = size / unit
            return f"{value:.1f} {word}" if value < 10 and value != int(value) else f"{int(value)} {word}"
    return f"{size} B"


def human_bytes2(size: int) -> str:
    """A size as the server's log prints it: binary, one decimal.

    >>> human_bytes2(668_991_488)
    '638.0 MiB'
    """
    return next((f"{size / unit:.1f} {word}" for unit, word in _BINARY if size >= unit), f"{size} B")


class Held(Struct, frozen=True, kw_only=True):
    """Bytes of a running model as Ollama counts them: in all, and on GPUs."""

    total: int
    vram: int

    @property
    def size(self) -> str:
        """The column SIZE."""
        return human_bytes(self.total)

    @property
    def processor(self) -> str:
        """The column PROCESSOR."""
        if not self.vram:
            return "100% CPU"
        if self.vram == self.total:
            return "100% GPU"
        if self.vram > self.total:
            return "Unknown"
        cpu = int((self.total - self.vram) / self.total * 100 + 0.5)  # Go rounds halves away from nothing
        return f"{cpu}%/{100 - cpu}% CPU/GPU"


def on_gpu(buffer: str) -> bool:
    """Whether a buffer of that name is counted as a GPU's: neither CPU, BLAS, nor a host buffer."""
    return buffer not in {"CPU", "BLAS"} and not buffer.startswith("CPU_") and not buffer.endswith("_Host")


def held_by(buffers: Mapping[tuple[str, str, str], int], file_bytes: int, *, all_layers: bool) -> Held:
    """What `ollama ps` shows of buffers by (component, buffer's name, kind).

    Args:
        buffers: one size for each key: of lines with one key Ollama keeps the last.
        file_bytes: of the model's file: mapped weights beyond it are views of weights that lie elsewhere.
        all_layers: the log says that every layer is on a GPU; the host's part is then not counted.
    """
    total = sum(buffers.values())
    vram = sum(size for (_, name, _), size in buffers.items() if on_gpu(name))
    weights = {name: 0 for _, name, kind in buffers if kind == "model"}
    for (_, name, kind), size in buffers.items():
        if kind == "model":
            weights[name] += size
    backed = sum(size for name, size in weights.items() if on_gpu(name) or name.endswith("_Mapped"))
    mapped = sum(size for name, size in weights.items() if not on_gpu(name) and name.endswith("_Mapped"))
    if mapped and backed > file_bytes:
        total -= min(mapped, backed - file_bytes)
    return Held(total=vram if all_layers else total, vram=vram)


def held_in_log(log: str, file_bytes: int, layers: int = 0) -> Held:
    """What `ollama ps` shows of a model whose llama-server printed `log`.

    Args:
        file_bytes: of the model's file.
        layers: of the model and one more, as long as the log has not said it.
    """
    buffers: dict[tuple[str, str, str], int] = {}
    for component, name, kind, text in _BUFFER.findall(log):
        if text.count(".") <= 1 and text != "." and len(text.partition(".")[0]) <= _DIGITS:
            buffers[component, name, kind] = int(float(text) * 2**20)
    loaded, overflowing = 0, 0
    for on, of in _OFFLOADED.findall(log):
        loaded, layers = int(on[:_DIGITS]), int(of[:_DIGITS])
    for (count,) in ((found,) for found in _OVERFLOWING.findall(log)):
        overflowing += int(count[:_DIGITS])
    if not buffers:
        return Held(total=file_bytes, vram=file_bytes)
    return held_by(buffers, file_bytes, all_layers=0 < layers <= loaded and not overflowing)
