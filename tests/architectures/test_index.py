"""The index of families: written from their ROWS, every name leads to a reader, and reading one family loads no other."""

import subprocess
import sys
from collections import Counter
from importlib import import_module, metadata
from types import SimpleNamespace

import pytest
from each import each
from golden import ROOT

from kvplan import architectures
from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row
from kvplan.architectures.kit.layers import attention
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader
from kvplan.architectures.parameters.index import MODULE_OF, MODULES
from kvplan.errors import ConfigError, UnknownArchitecture


def make_index(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "tools" / "make_index.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_index_is_current() -> None:
    done = make_index("--check")
    assert done.returncode == 0, done.stderr


def test_no_model_type_has_two_families() -> None:
    counted = Counter(model_type for types in architectures.FAMILIES.values() for model_type in types)
    assert [model_type for model_type, number in counted.items() if number > 1] == []


@each("family", architectures.FAMILIES)
def test_a_row_is_a_reader(family: str) -> None:
    rows = import_module(f"kvplan.architectures.families.{family}").ROWS
    assert set(rows) == set(architectures.FAMILIES[family])
    assert all(isinstance(row, Reader) for row in rows.values())


@each("model_type", architectures.known_model_types())
def test_a_bare_model_type_reads_or_names_the_key_that_it_lacks(model_type: str) -> None:
    try:
        model = architectures.read({"model_type": model_type})
    except ConfigError as error:
        assert str(error).startswith("config.json: `")  # noqa: PT017 - either outcome is right, and this one is worded
    else:
        assert model.layers


def test_a_type_that_nobody_claims_has_no_reader() -> None:
    with pytest.raises(UnknownArchitecture, match="unheard-of"):
        architectures.reader_of("unheard-of")


def test_reading_one_family_loads_its_readers_and_no_other_family() -> None:
    code = (
        "import sys; from kvplan import architectures as a; a.read({'model_type': 'phimoe'});"
        "print(*sorted(m.removeprefix('kvplan.architectures.') for m in sys.modules if m.startswith('kvplan.architectures.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if "." in name}
    readers = {f"kit.{name}" for name in ("config", "heads", "layers", "plain", "reader", "sliding", "states")}
    assert loaded == {"families.phi", *readers}


def test_counting_parameters_loads_the_module_of_that_type_alone() -> None:
    code = (
        "import sys; from kvplan.architectures.kit.config import Config;"
        "from kvplan.architectures.parameters import MODULE_OF, counted;"
        "counted(Config({'model_type': 'whisper'}, 'x'));"
        "prefix = 'kvplan.architectures.parameters.';"
        "print(*sorted({m.removeprefix(prefix) for m in sys.modules} & set(MODULE_OF.values())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [MODULE_OF["whisper"]]


@each("module", MODULES)
def test_a_module_counts_what_the_index_says(module: str) -> None:
    assert set(import_module(f"kvplan.architectures.parameters.{module}").ROWS) == set(MODULES[module])


# Third parties.


def by_model_type(c: Config, model_type: str) -> Decoder:
    """What an entry point's module had before there were rows."""
    return Decoder(layers=[(attention(len(model_type), 8),)] * c.integer("num_hidden_layers"))


@pytest.mark.parametrize(
    "module",
    [SimpleNamespace(ROWS={"unheard-of": plain(Row(2, 10, 80))}), SimpleNamespace(read=by_model_type)],
    ids=["rows", "a function"],
)
def test_a_third_party_adds_a_family_through_its_entry_point(module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    point = SimpleNamespace(name="unheard-of", load=lambda: module)
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: [point] if group == "kvplan.architectures" else [])
    model = architectures.read({"model_type": "unheard-of", "num_hidden_layers": 3})
    assert [layer.memories for layer in model.layers] == [(attention(10, 8),)] * 3
    assert not model.inferred
