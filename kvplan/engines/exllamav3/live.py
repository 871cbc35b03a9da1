"""What a running TabbyAPI says of its model.

Source: theroyallab/tabbyAPI endpoints/core/router.py: `/v1/model` (ModelCard.parameters).
"""

from typing import Any, Final

from kvplan.engines.kernel.live import Answers, Asking, Live, Printed, count, data, text


def _read(answers: Answers) -> tuple[Live, ...]:
    card = data(answers, "/v1/model")
    parameters = card.get("parameters") if isinstance(card, dict) else None
    if not isinstance(parameters, dict) or not text(card.get("id")):
        return ()
    options: dict[str, Any] = {
        name: parameters[name] for name in ("max_seq_len", "cache_size", "max_batch_size") if count(parameters.get(name))
    }
    if text(parameters.get("cache_mode")):
        options["cache_mode"] = text(parameters["cache_mode"])
    length, cells = count(parameters.get("max_seq_len")), count(parameters.get("cache_size"))
    printed = [Printed(name="max_seq_len", value=length, of="length")] if length is not None else []
    printed += [Printed(name="cache_size", value=cells, of="num_tokens")] if cells is not None else []
    return (Live(model=text(card["id"]), options=options, printed=tuple(printed)),)


ASKING: Final = Asking(("/v1/model",), _read)
