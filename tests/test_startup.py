"""Starting is cheap: nothing is imported that the question does not need."""

import json
import subprocess
import sys

import pytest
from each import each

HEAVY = {"torch", "pandas", "numpy", "pydantic", "pyarrow", "huggingface_hub", "transformers"}


def _modules_after(code: str) -> set[str]:
    """Top-level names in sys.modules after `code` ran in a new process."""
    listing = "import json, sys; sys.stderr.write(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{listing}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr))


def _modules_after_command(*arguments: str) -> set[str]:
    return _modules_after(f"from kvplan.cli.app import main\nassert main({list(arguments)!r}) == 0")


def test_importing_kvplan_loads_nothing_from_other_packages() -> None:
    bare = _modules_after("pass")
    loaded = _modules_after("import kvplan") - bare
    assert loaded - set(sys.stdlib_module_names) == {"kvplan"}


def test_planning_from_python_needs_msgspec_alone() -> None:
    loaded = _modules_after("import kvplan; kvplan.estimate('llama-3.1-8b')") - _modules_after("pass")
    allowed = {"kvplan", "msgspec", "typing_extensions"}
    assert {name for name in loaded - set(sys.stdlib_module_names) if "cython" not in name} <= allowed


@each(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("estimate", "--help"),
        ("estimate", "llama-3.1-8b"),
        ("estimate", "llama-3.1-8b", "gemma-3-27b", "-f", "json", "--kv-dtype", "fp8"),
        ("sweep", "--help"),
    ],
    ids=" ".join,
)
def test_a_command_loads_no_heavy_package(arguments: tuple[str, ...]) -> None:
    assert not _modules_after_command(*arguments) & HEAVY


@pytest.mark.parametrize("command", ["estimate llama-3.1-8b", "fit llama-3.1-8b --gpu h100 --context 8k", "models", "gpus"])
def test_what_is_piped_does_without_rich_and_yaml(command: str) -> None:
    assert not _modules_after_command(*command.split()) & {"rich", "yaml"}


def test_a_start_loads_msgspec_without_typing_extensions_which_others_still_find() -> None:
    started = (
        "sys.argv = ['kvplan', 'estimate', 'llama-3.1-8b']\ntry:\n    run()\nexcept SystemExit as end:\n    assert end.code == 0"
    )
    after = "assert 'typing_extensions' not in sys.modules  # nor a mark that it cannot be loaded\nimport typing_extensions"
    assert {"msgspec", "typing_extensions"} <= _modules_after(f"import sys\nfrom kvplan.__main__ import run\n{started}\n{after}")


def test_a_sweep_loads_pyarrow_only_to_write_and_pandas_only_for_a_frame() -> None:
    assert not _modules_after_command("sweep", "llama-3.1-8b", "-s", "1k,2k") & {"pandas", "pyarrow", "torch"}
    assert not _modules_after_command("sweep", "llama-3.1-8b", "-s", "1k,2k", "-f", "csv") & {"pandas", "torch"}


def test_a_fit_of_a_text_model_reads_no_rules_of_images() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "kvplan", "fit", "llama-3.1-8b", "--gpu", "h100", "--context", "8k"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "kvplan.engines.vllm.ledger.build" in loaded
    assert not loaded & {"kvplan.engines.vllm.ledger.vision", "kvplan.engines.vllm.media", "kvplan.domain.media.images"}
