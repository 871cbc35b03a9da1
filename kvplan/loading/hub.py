"""Models on the hub, by `owner/name`, through huggingface_hub: only config.json is fetched, never code or weights."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvplan.domain.model import Model
from kvplan.errors import EnvironmentMissing, UnknownModel
from kvplan.loading.config_json import load_config


def load_from_hub(repo_id: str, *, infer: bool = False) -> Model:
    """Fetch (or take from the cache) a repository's config.json and read it.

    `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` are honoured by huggingface_hub itself.

    Raises:
        EnvironmentMissing: huggingface_hub is not installed, the hub is out of reach, or offline mode is on.
        UnknownModel: no such repository, a gated one, or one without a config.json.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as problem:
        raise EnvironmentMissing(
            f"`{repo_id}` looks like a hub id, and huggingface_hub is not installed",
            hint="pip install 'kvplan[hub]', or give a local config.json",
        ) from problem
    with hub_errors(repo_id, "config.json"):
        path = hf_hub_download(repo_id, "config.json", local_files_only=not _reachable(repo_id))
    return load_config(Path(path), infer=infer, name=repo_id.rpartition("/")[2])


@contextmanager
def hub_errors(repo_id: str, filename: str) -> Iterator[None]:
    """The hub's errors as kvplan's own.

    Raises:
        EnvironmentMissing: the hub is out of reach, or offline mode is on.
        UnknownModel: no such repository, a gated one, or one without that file.
    """
    from huggingface_hub import errors as hub

    try:
        yield
    except hub.GatedRepoError as problem:
        raise UnknownModel(
            f"the hub repository `{repo_id}` is gated", hint="accept its terms on the hub, then set HF_TOKEN"
        ) from problem
    except hub.RepositoryNotFoundError as problem:
        raise UnknownModel(
            f"the hub has no repository `{repo_id}` (or it is private)", hint="check the spelling; private ones need HF_TOKEN"
        ) from problem
    except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled) as problem:  # the former is an EntryNotFoundError too
        raise _unreachable(repo_id, filename) from problem
    except hub.EntryNotFoundError as problem:
        what = "no config.json" if filename == "config.json" else f"no file `{filename[:200]}`"
        raise UnknownModel(f"the hub repository `{repo_id}` has {what}", hint="is it a model repository?") from problem
    except hub.HFValidationError as problem:
        raise UnknownModel(f"`{repo_id[:120]}` is not a valid hub id", hint="a hub id is owner/name") from problem
    except (OSError, RuntimeError) as problem:
        raise _unreachable(repo_id, filename) from problem


def _reachable(repo_id: str) -> bool:
    """Whether the hub answers at all, asked once: a download would retry for half a minute before saying no.

    Raises:
        huggingface_hub's own errors, when the hub answers and refuses.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(repo_id, "config.json"))
    except HfHubHTTPError as problem:
        if problem.response is not None and problem.response.status_code >= 500:
            return False
        raise
    except ValueError:
        raise
    except Exception:  # the transport's errors: their classes differ between releases of huggingface_hub
        return False
    return True


def _unreachable(repo_id: str, filename: str) -> EnvironmentMissing:
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    reason = "offline mode is on (HF_HUB_OFFLINE)" if offline else "the hub is out of reach"
    return EnvironmentMissing(
        f"cannot fetch `{repo_id}` from the hub: {reason} and it is not in the cache",
        hint=f"download its {filename} and give the path, or check HF_ENDPOINT and HF_HUB_OFFLINE",
    )
