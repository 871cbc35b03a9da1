"""What a running llama-server says of itself.

Source: tools/server/server.cpp: `/props` (model_path, total_slots, default_generation_settings.n_ctx, build_info), `/slots`.
"""

import re
from typing import Any, Final

from kvplan.engines.kernel.live import Answers, Asking, Live, Printed, count, data, text

_BUILD: Final = re.compile(r"b\d{3,6}")


def _read(answers: Answers) -> tuple[Live, ...]:
    props = data(answers, "/props")
    if not isinstance(props, dict) or "default_generation_settings" not in props:
        return ()
    settings = props["default_generation_settings"]
    cells = count(settings.get("n_ctx")) if isinstance(settings, dict) else None
    slots = count(props.get("total_slots")) or 1
    listed = data(answers, "/slots")
    printed: list[Printed] = []
    if cells is not None:
        printed.append(Printed(name="n_ctx of a slot", value=cells, of="context"))
        printed.append(Printed(name="total_slots", value=slots, of="sequences"))
    if isinstance(listed, list) and listed:
        printed.append(Printed(name="slots", value=len(listed), of="sequences"))
    build = _BUILD.search(text(props.get("build_info")))
    options: dict[str, Any] = {"parallel": slots} | ({} if cells is None else {"ctx_size": cells * slots})
    return (
        Live(model=text(props.get("model_path")), version=build[0] if build else "", options=options, printed=tuple(printed)),
    )


ASKING: Final = Asking(("/props", "/slots"), _read)
