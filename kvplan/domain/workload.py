"""What the model is asked to hold at once."""

import re
from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict, force_setattr

from kvplan.domain.lengths import trained_tokens
from kvplan.domain.model import Model
from kvplan.errors import OptionError, shown
from kvplan.units import MAX_COUNT

#: Stands for what an engine makes room for when nobody says how much.
AUTO: Final = "auto"
_LONGEST: Final = r"\bmax\b"


class Workload(Struct, frozen=True, kw_only=True):
    """`batch_size` sequences of `seq_len` tokens (prompt and output together).

    `encoder_len` are the encoder output (or image) tokens of one sequence. What only one engine asks about a prompt is an
    option of that engine.
    """

    batch_size: int = 1
    seq_len: int = 1  # tokens
    encoder_len: int = 0  # tokens

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not isinstance(value, int) and getattr(value, "ndim", 1) == 0 and hasattr(value, "__index__"):
                value = _whole(value)
                force_setattr(self, name, value)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
                raise OptionError(
                    f"{name} must be a whole number from 0 to 2**53, got {shown(value)}",
                    hint="counts are tokens or sequences; on the command line `8k` is 8,192",
                    option=name,
                )

    def to_dict(self) -> dict[str, int]:
        """The JSON form."""
        return asdict(self)


def _whole(value: Any) -> Any:
    """A whole number of another library's (numpy's, torch's) as Python's; what is none stays as it is."""
    try:
        return value.__index__()
    except TypeError:
        return value


def with_longest(text: str, models: Iterable[Model], what: str) -> str:
    """`max` in a length, or in a list of them, as the number of tokens that the models are made for.

    Raises:
        OptionError: a model says no limit, or several say different ones.
    """
    if re.search(_LONGEST, text, re.IGNORECASE) is None:
        return text
    limits = {model.name: trained_tokens(model) for model in models}
    for name, limit in limits.items():
        if limit is None:
            raise OptionError(f"{what} max: {name} says no limit", hint="give the number of tokens")
    if len(set(limits.values())) > 1:
        said = ", ".join(f"{name} {limit:,}" for name, limit in list(limits.items())[:6])
        raise OptionError(f"{what} max: the models have different limits: {said}", hint="give the number of tokens")
    return re.sub(_LONGEST, str(next(iter(limits.values()))), text, flags=re.IGNORECASE)
