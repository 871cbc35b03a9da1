"""What a running Ollama says of itself: the models that it has loaded.

Source: server/routes.go:PsHandler (`/api/ps`: size, size_vram, context_length), VersionHandler.
"""

from typing import Final

from kvplan.engines.kernel.live import Answers, Asking, Live, Printed, count, data, text


def _read(answers: Answers) -> tuple[Live, ...]:
    loaded, said = data(answers, "/api/ps"), data(answers, "/api/version")
    models = loaded.get("models") if isinstance(loaded, dict) else None
    version = text(said.get("version")) if isinstance(said, dict) else ""
    found = []
    for one in models[:32] if isinstance(models, list) else []:
        if not isinstance(one, dict) or not text(one.get("name")):
            continue
        size, length = count(one.get("size_vram")), count(one.get("context_length"))
        details = one.get("details")
        mix = text(details.get("quantization_level")).lower() if isinstance(details, dict) else ""
        printed = [Printed(name="size_vram", value=size, of="taken_bytes")] if size is not None else []
        printed += [Printed(name="context_length", value=length, of="context")] if length is not None else []
        options = {"num_ctx": length} if length else {}
        notes = (f"its weights are {mix}",) if mix else ()
        found.append(Live(model=text(one["name"]), version=version, options=options, printed=tuple(printed), notes=notes))
    return tuple(found)


ASKING: Final = Asking(("/api/ps", "/api/version"), _read)
