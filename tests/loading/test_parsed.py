"""What is kept of kvplan's own YAML files is what they say, and nothing of a text that was changed."""

import make_parsed
import pytest

from kvplan.domain import gpus
from kvplan.loading.catalogue import folder, load_entry
from kvplan.loading.parsed import FILE, checksum, parsed
from kvplan.loading.yaml_spec.nodes import ListNode, MapNode, Scalar, parse_yaml
from kvplan.loading.yaml_spec.read import load_spec

NAME = "llama-3.1-8b"


def test_what_is_kept_is_current() -> None:
    assert (folder() / FILE).read_bytes() == make_parsed.specs(), "run `make index`"
    assert gpus.KEPT.read_bytes() == make_parsed.cards(), "run `make index`"


def test_an_entry_is_the_same_kept_and_parsed() -> None:
    path = folder() / f"{NAME}.yaml"
    kept = parsed(folder(), NAME, path.read_bytes())
    assert kept is not None
    assert kept == parse_yaml(path.read_bytes(), str(path))
    assert load_entry(path) == load_spec(path)
    assert load_entry(path).provenance == load_spec(path).provenance  # with its lines


def test_nothing_is_kept_of_a_changed_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (folder() / f"{NAME}.yaml").read_bytes()
    assert parsed(folder(), NAME, text + b"\n") is None
    assert parsed(folder(), "llama-3.1", text) is None
    assert checksum(text) != checksum(text.replace(b"32", b"33"))
    monkeypatch.setattr(gpus, "crc32", lambda _: 0)  # as if gpus.yaml were another
    assert gpus.gpus.__wrapped__() == gpus.read_gpus(gpus.DATA.read_bytes(), "gpus.yaml")


def test_a_node_shows_what_the_file_says() -> None:
    root = parse_yaml(b"plain: word\nquoted: '12'\nnumber: 1.50\nnothing:\nlist: [1, true]", "x")
    assert isinstance(root, MapNode)
    shown = {key: node.shown for key, node in root.entries.items() if isinstance(node, Scalar)}
    assert shown == {"plain": "word", "quoted": "'12'", "number": "1.50", "nothing": ""}
    listed = root.entries["list"]
    assert isinstance(listed, ListNode)
    assert [node.shown for node in listed.items if isinstance(node, Scalar)] == ["1", "true"]
