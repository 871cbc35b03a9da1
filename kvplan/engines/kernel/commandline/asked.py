"""What a command line asks of kvplan's engine, and what of it is not counted."""

import json
from typing import Any

from msgspec import Struct, field


class Asked(Struct):
    """Options by kvplan's names; names of what changes memory and is not counted, and of what has no value in the input.

    `context` and `sequences` are for engines that reserve nothing: tokens of one request, and how many requests there are.
    `drafter` is a second model, by its name; `on_cards` says whether the model is on them at all, `layers` how many of its.
    """

    options: dict[str, Any] = field(default_factory=dict)
    not_counted: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    context: int | None = None
    sequences: int | None = None
    drafter: str = ""
    on_cards: bool = True
    splits_all: bool = False  # heads are split over every card that it sees
    layers: int | None = None  # that are on the cards, where a number of them is typed

    def put(self, name: str, value: Any) -> None:
        """An option as kvplan's engines take it: lists with commas, objects as JSON."""
        if isinstance(value, dict):
            value = json.dumps(value)
        elif isinstance(value, list):
            value = ",".join(map(str, value))
        self.options[name] = value
