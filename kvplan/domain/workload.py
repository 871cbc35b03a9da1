"""What the model is asked to hold at once."""

from msgspec import Struct

from kvplan.errors import OptionError, shown
from kvplan.units import MAX_COUNT


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
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
                raise OptionError(
                    f"{name} must be a whole number from 0 to 2**53, got {shown(value)}",
                    hint="counts are tokens or sequences; on the command line `8k` is 8,192",
                    option=name,
                )
