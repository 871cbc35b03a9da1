"""What people say of memory: the weights, what other tenants leave."""

from collections.abc import Sequence

from kvplan.api.given import Count, Source, size
from kvplan.domain.ledger import Line
from kvplan.domain.model import Model
from kvplan.loading.weights.find import find_weights
from kvplan.units import parse_size


def known_weights(source: Source, loaded: Model, given: Count | None, dtype: str | None) -> Line:
    """The weights: as given, as found beside the model, or counted from its config.

    Raises:
        OptionError: nobody knows them.
    """
    return find_weights(source, loaded, given_bytes=None if given is None else size(given, "«weights»"), dtype=dtype)


def flag_of_weights(weights: Count | None, dtype: str | None) -> str:
    """What is typed for weights that were given; empty where they were not."""
    if weights is not None:
        return f"--weights {weights.replace(' ', '')}" if isinstance(weights, str) else f"--weights {size(weights, 'weights')}B"
    return f"--weights-dtype {dtype}" if dtype else ""


def free_bytes(value: Count | Sequence[Count] | None) -> tuple[int, ...]:
    """`--free`: one size, or one a rank with commas.

    Raises:
        OptionError: not sizes.
    """
    if value is None:
        return ()
    parts = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, Sequence) else [value]
    return tuple(parse_size(part, what="«free»") if isinstance(part, str) else size(part, "«free»", 0) for part in parts)
