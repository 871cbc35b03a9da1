"""The weights of a hub repository, by its safetensors index or one file's header: kilobytes are fetched, never tensors."""

from math import prod
from pathlib import Path

from kvplan.errors import EnvironmentMissing, UnknownModel
from kvplan.loading.hub import hub_errors
from kvplan.loading.weights.safetensors import TensorBytes, index_bytes

_INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"


def hub_checkpoint(repo_id: str) -> TensorBytes | None:
    """What the tensors of a repository take, or None when it has no safetensors files or the hub is out of reach.

    The repository's config.json has been fetched already, so huggingface_hub is there and the hub answered or is cached.
    """
    from huggingface_hub import hf_hub_download, parse_safetensors_file_metadata
    from huggingface_hub.errors import NotASafetensorsRepoError, SafetensorsParsingError

    try:
        with hub_errors(repo_id, _INDEX):
            return index_bytes(Path(hf_hub_download(repo_id, _INDEX)))
    except UnknownModel:  # not sharded: a single file, or none
        pass
    except EnvironmentMissing:
        return None
    try:
        with hub_errors(repo_id, _WHOLE):
            header = parse_safetensors_file_metadata(repo_id, _WHOLE)
    except (UnknownModel, EnvironmentMissing, NotASafetensorsRepoError, SafetensorsParsingError):
        return None
    tensors = header.tensors.values()
    return TensorBytes(
        bytes=sum(tensor.data_offsets[1] - tensor.data_offsets[0] for tensor in tensors),
        elements=sum(prod(tensor.shape) for tensor in tensors),
        source=f"the header of {_WHOLE} on the hub",
    )
