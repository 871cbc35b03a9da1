"""Which layers a pipeline stage has. Source: `distributed/utils.py:get_pp_indices`."""

from collections.abc import Sequence

from kvplan.errors import OptionError


def stage_layers(layers: int, stages: int, given: Sequence[int] = ()) -> tuple[range, ...]:
    """The layers of each stage: as they are dealt out by hand, else evenly; what is left over goes to the stages before the last.

    Args:
        given: layers of each stage (`pp_layer_partition`).

    Raises:
        OptionError: more stages than layers, or a partition that is not of so many layers.

    >>> stage_layers(5, 2), stage_layers(5, 2, (4, 1))
    ((range(0, 3), range(3, 5)), (range(0, 4), range(4, 5)))
    """
    if stages > max(layers, 1):
        raise OptionError(
            f"pipeline_parallel_size {stages} is larger than the model's {layers} layers", option="pipeline_parallel_size"
        )
    if given and sum(given) != layers:
        raise OptionError(
            f"pp_layer_partition: {'+'.join(map(str, given))} layers are not the model's {layers}", option="pp_layer_partition"
        )
    sizes = list(given) or [layers // stages] * stages
    for back in range(2, 2 if given else layers % stages + 2):
        sizes[-back] += 1
    ends = [sum(sizes[: stage + 1]) for stage in range(stages)]
    return tuple(range(end - size, end) for end, size in zip(ends, sizes, strict=True))
