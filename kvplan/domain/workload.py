"""What the model is asked to hold at once."""

from msgspec import Struct

from kvplan.errors import OptionError
from kvplan.units import MAX_COUNT


class Workload(Struct, frozen=True, kw_only=True):
    """`batch_size` sequences of `seq_len` tokens (prompt and output together).

    `prompt_len` is the part that was prefilled at once, where an engine's storage depends on it;
    `encoder_len` the encoder output (or image) tokens of one sequence; `shared_prefix_len` the tokens
    that all sequences have in common, for engines that store a common prefix once.
    """

    batch_size: int = 1
    seq_len: int = 1  # tokens
    prompt_len: int | None = None  # tokens
    encoder_len: int = 0  # tokens
    shared_prefix_len: int = 0  # tokens

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is None and name == "prompt_len":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
                raise OptionError(
                    f"{name} must be a whole number from 0 to 2**53, got `{str(value)[:40]}`",
                    hint="counts are tokens or sequences; on the command line `8k` is 8,192",
                )
