"""This process among those that torchrun started; one alone when it did not."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from kvplan.errors import OptionError
from kvplan.limits import RANKS

_NEEDED: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class Ranks(Struct, frozen=True, kw_only=True):
    """Place of this process: `rank` of `world_size` overall, `local_rank` of `local_world_size` on this machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def several(self) -> bool:
        """Whether there are others to talk to."""
        return self.world_size > 1


def ranks_from(environment: Mapping[str, str]) -> Ranks:
    """The place that torchrun wrote into the environment.

    Raises:
        OptionError: the variables are there but are not counts, or contradict each other.

    >>> ranks_from({})
    Ranks(rank=0, world_size=1, local_rank=0, local_world_size=1)
    """
    if not all(environment.get(name) for name in _NEEDED):
        return Ranks()
    values = []
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        text = environment.get(name, environment["WORLD_SIZE"])
        if not (text.isascii() and text.isdigit() and len(text) < 7):
            raise OptionError(f"{name} in the environment must be a count, got `{text[:40]}`", hint="start with torchrun")
        values.append(int(text))
    rank, world_size, local_rank, local_world_size = values
    if world_size > RANKS:
        raise OptionError(f"WORLD_SIZE is {world_size:,}, and at most {RANKS:,} ranks are taken", hint="start with torchrun")
    if not (rank < world_size and local_rank < local_world_size <= world_size):
        raise OptionError(
            f"the environment says rank {rank} of {world_size} and local rank {local_rank} of {local_world_size}",
            hint="start with torchrun",
        )
    return Ranks(rank=rank, world_size=world_size, local_rank=local_rank, local_world_size=local_world_size)
