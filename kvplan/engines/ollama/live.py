"""What a running Ollama says of itself: the models that it has loaded.

Source: server/routes.go:PsHandler (`/api/ps`: size, size_vram, context_length), VersionHandler, ShowHandler (`/api/show`: the
Modelfile's parameters as lines, the GGUF's keys as `model_info`).
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from kvplan.engines.kernel.live import Answers, Asking, Live, Printed, count, data, text

_MOST: Final = 32  # models
#: What a Modelfile sets and memory depends on.
_PARAMETERS: Final = ("num_gpu", "num_batch", "main_gpu")


def _loaded(answers: Answers) -> Iterator[dict[str, Any]]:
    loaded = data(answers, "/api/ps")
    models = loaded.get("models") if isinstance(loaded, dict) else None
    for one in models[:_MOST] if isinstance(models, list) else []:
        if isinstance(one, dict) and text(one.get("name")):
            yield one


def _show(name: str) -> str:
    return f"/api/show {json.dumps({'model': name})}"


def _further(answers: Answers) -> tuple[str, ...]:
    return tuple(_show(text(one["name"])) for one in _loaded(answers))


def _parameters(shown: Any) -> dict[str, int]:
    """What the Modelfile says, a line each: `num_gpu                        20`."""
    said = shown.get("parameters") if isinstance(shown, dict) else None
    pairs = (line.split() for line in text(said).splitlines())
    found = {pair[0]: count(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] in _PARAMETERS}
    return {name: value for name, value in found.items() if value is not None}


def _read(answers: Answers) -> tuple[Live, ...]:
    said = data(answers, "/api/version")
    version = text(said.get("version")) if isinstance(said, dict) else ""
    found = []
    for one in _loaded(answers):
        shown = data(answers, _show(text(one["name"])))
        size, length = count(one.get("size_vram")), count(one.get("context_length"))
        details = one.get("details")
        mix = text(details.get("quantization_level")).lower() if isinstance(details, dict) else ""
        printed = [Printed(name="size_vram", value=size, of="taken_bytes")] if size is not None else []
        printed += [Printed(name="context_length", value=length, of="context")] if length is not None else []
        options = _parameters(shown) | ({"num_ctx": length} if length else {})
        keys = shown.get("model_info") if isinstance(shown, dict) else None
        own = text(keys.get("general.name") or keys.get("general.basename")) if isinstance(keys, dict) else ""
        notes = (*((f"its weights are {mix}",) if mix else ()), *((f"its file says it is {own}",) if own else ()))
        found.append(Live(model=text(one["name"]), version=version, options=options, printed=tuple(printed), notes=notes))
    return tuple(found)


ASKING: Final = Asking(("/api/ps", "/api/version"), _read, _further)
