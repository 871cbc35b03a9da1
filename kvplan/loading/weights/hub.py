"""The weights of a hub repository, by its safetensors index or one file's header: kilobytes are fetched, never tensors."""

from kvplan.errors import EnvironmentMissing, UnknownModel
from kvplan.limits import SAFETENSORS_HEADER_BYTES, SAFETENSORS_INDEX_BYTES
from kvplan.loading.fetch import HubFile
from kvplan.loading.weights.safetensors import TensorBytes, index_total, tensors_of

_INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"


def hub_checkpoint(repo_id: str) -> TensorBytes | None:
    """What the tensors of a repository take, or None when it has no safetensors files or the hub is out of reach.

    Raises:
        InputError: an index or a header that contradicts itself.
    """
    try:
        index = HubFile(repo_id, _INDEX).whole(SAFETENSORS_INDEX_BYTES)
    except UnknownModel:  # not sharded: a single file, or none
        index = b""
    except EnvironmentMissing:
        return None
    if index:
        return index_total(index, f"{repo_id}/{_INDEX}", _INDEX)
    try:
        file = HubFile(repo_id, _WHOLE)
        size = file.size()
        length = int.from_bytes(file.read(0, min(8, size)), "little")
        if not 2 <= length <= min(SAFETENSORS_HEADER_BYTES, size - 8):
            return None
        header = file.read(0, 8 + length)[8:]
    except (UnknownModel, EnvironmentMissing):
        return None
    found, elements = tensors_of(header, size - 8 - length, f"{repo_id}/{_WHOLE}")
    return TensorBytes(bytes=found, elements=elements, source=f"the header of {_WHOLE} on the hub")
