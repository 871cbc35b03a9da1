"""The cards that a text names: one, several, a maker's, all, or this machine's."""

from kvplan.api.given import Count, size
from kvplan.domain.budget import gpu_memory
from kvplan.domain.gpus import Gpu, counted, gpu, gpus
from kvplan.domain.machine import Machine
from kvplan.errors import OptionError


def any_card(memory: Count | None) -> str:
    """The card of which nothing is known but its memory, as `gpu` names it.

    Raises:
        OptionError: nor is that.
    """
    if memory is None:
        raise OptionError("say what it is to run on: «gpu NAME», or «memory SIZE» for any card", hint="`kvplan gpus` lists them")
    return memory if isinstance(memory, str) else f"{size(memory, '«memory»')}B"


def named_gpus(names: str, makers: tuple[str, ...]) -> list[tuple[Machine, int | None]]:
    """The GPUs that a text names, each with its `:N`.

    `all` are those of the makers whose devices the engine is predicted on, without those that are sold in several sizes; a
    maker's name (`nvidia`, `apple`) are all of its own.
    """
    found: list[tuple[Machine, int | None]] = []
    for part in names.split(","):
        name, count = counted(part)
        if name == "local":
            from kvplan.questions.validate.local import local_machine

            found.append((local_machine(), count))
        elif name:
            known = named(name)
            wanted = [entry for entry in known if entry.vendor in makers] if name == "all" and makers else known
            found += [(Machine(gpu=entry), count) for entry in wanted]
    if not found:
        raise OptionError("no GPU was named", hint="«gpu NAME», «gpu A,B,C», «gpu nvidia» or «gpu all»; `kvplan gpus` lists them")
    return found


def named(name: str) -> list[Gpu]:
    """The cards of one word: a name, a maker's, or `all`; none for `local`, which asks the machine."""
    if name in {"", "local"}:
        return []
    if name == "all":
        return [entry for entry in gpus() if _sized(entry)]
    of_maker = [entry for entry in gpus() if entry.vendor == name.lower()]
    if of_maker:
        return [card for entry in of_maker for card in _every_size(entry)]
    return [gpu(name)]


def _every_size(entry: Gpu) -> list[Gpu]:
    """A card in each size that it is sold in."""
    return [entry] if _sized(entry) else [gpu(f"{entry.id}-{size}gb") for size in entry.marketed_gb]


def _sized(entry: Gpu) -> bool:
    try:
        gpu_memory(entry)
    except OptionError:
        return False
    return True
