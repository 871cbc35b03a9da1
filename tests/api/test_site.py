"""The site: whole without a server or a network, its numbers the commands', names harmless, and never half a folder."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan.api import site as made
from kvplan.cli.app import main
from kvplan.errors import OptionError
from kvplan.loading.catalogue import names
from kvplan.report.site import file_name

HOSTILE = "</script><script>alert(1)</script>&\"'<img src=x onerror=alert(2)>"
SPEC = f"name: {json.dumps(HOSTILE)}\ndtype: bfloat16\nlayers: 4\nattention: {{kv_heads: 2, head_dim: 64, attention_heads: 4}}\n"
SETTINGS = ("--gpu", "rtx-4090", "-e", "vllm,ideal", "-s", "4k,8k", "-b", "2", "--kv-dtype", "auto")


class Read(HTMLParser):
    """What a page links to, runs, and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline: list[dict[str, Any]] = []
        self.tags: set[str] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        assert not any(name.startswith("on") or name == "style" for name in found), found
        self.links += [found[name] for name in ("href", "src") if name in found]
        if tag == "script" and "src" not in found:
            self.inline.append(found)

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    (place / "evil.yaml").write_text(SPEC)
    assert main(["site", "gpt2", "cla-paper/3b-h64-*", str(place / "evil.yaml"), "-o", str(place / "out"), *SETTINGS]) == 0
    return place / "out"


def test_it_is_whole_and_a_name_runs_nothing(folder: Path) -> None:
    pages = sorted(folder.rglob("*.html"))
    assert len(pages) == 6
    for page in pages:
        text = page.read_text(encoding="utf-8")
        read = Read(text)
        for link in read.links:
            assert ":" not in link, (page, link)
            assert not link.startswith("/")
            assert (page.parent / link.partition("#")[0]).is_file(), (page, link)
        assert all(found.get("type") == "application/json" for found in read.inline), page
        assert "img" not in read.tags
        assert "default-src 'none'" in text
        assert "fetch(" not in text
    index = (folder / "index.html").read_text(encoding="utf-8")
    assert HOSTILE in Read(index).words
    assert all(word not in (folder / "assets" / "site.js").read_text() for word in ("innerHTML", "fetch(", "eval(", "http"))
    assert not list(folder.parent.glob(".out.*"))


def test_its_numbers_are_the_commands(folder: Path) -> None:
    listed = json.loads((folder / "json" / "index.json").read_text())
    assert [row["model"] for row in listed["models"]] == ["gpt2", "cla-paper/3b-h64-mqa", "cla-paper/3b-h64-mqa-cla2", HOSTILE]
    assert [row["family"] for row in listed["models"]] == ["gpt", "cla-paper", "cla-paper", "others"]
    for row in listed["models"][:3]:
        assert row["bytes_per_token"] == kvplan.estimate(row["model"]).bytes_per_token
        for engine in listed["engines"]:
            told = json.loads((folder / row["json"] / f"{engine}.json").read_text())
            assert len(told["estimates"]) == len(told["fits"]) == 2
            for cell in told["estimates"]:
                asked = kvplan.estimate(row["model"], engine=engine, seq_len=cell["seq_len"], batch_size=cell["batch_size"])
                assert (cell["total_bytes"], cell["bytes_per_token"]) == (asked.total_bytes, asked.bytes_per_token)
                assert cell["evidence"] == asked.evidence
    fits = json.loads((folder / "json" / "gpt2" / "vllm.json").read_text())["fits"]
    data = Read((folder / "cards.html").read_text()).words
    shown = json.loads(data[data.index('{"engines"') : data.index("}]}") + 3])
    for cell, there in zip(fits, shown["models"][0]["held"], strict=False):
        found = kvplan.try_fit("gpt2", "rtx-4090", engine="vllm", context=cell["context"])
        assert cell["verdict"] == ("fits" if getattr(found, "fits", False) else cell["verdict"])
        assert there in ([cell["requests_low"], cell["requests"]], cell["requests"], cell["verdict"])
    assert {one["name"] for one in shown["models"]} == {row["model"] for row in listed["models"]}
    assert shown["models"][3]["held"] == ["not known"] * 4  # a description that says nothing of weights


def test_an_earlier_site_is_replaced_and_nothing_else(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("--gpu", "", "-e", "ideal", "-s", "4k", "-b", "1", "--kv-dtype", "auto")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def fails(*_: Any, **__: Any) -> Any:
        raise OptionError("no")

    with monkeypatch.context() as patched:
        patched.setattr(made, "site_files", fails)
        assert main(["site", "gpt2", "-o", str(folder), *few]) == 2
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        assert main(["site", "gpt2", "-o", str(tmp_path / "empty"), *few]) == 0
        assert "1 models" not in (said := capsys.readouterr().err)
        assert said.startswith(f"wrote {tmp_path}/empty: 1 model, ")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    for place, words in ((tmp_path / "mine", "holds something else"), (tmp_path / "no" / "where", "cannot write")):
        assert main(["site", "gpt2", "-o", str(place), *few]) == 2
        assert words in capsys.readouterr().err
    assert main(["site", "no-such-model", "-o", str(tmp_path / "x")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine"]


def test_names_of_files_are_safe_and_differ() -> None:
    every = [
        *names(),
        "",
        "..",
        "../../etc/passwd",
        "a b",
        "A B",
        "a-b",
        "CON",
        "nul.x",
        "x" * 500,
        "\ud800",
        "ä",
        "a/b",
        "a--b?",
        HOSTILE,
    ]
    found = [file_name(name) for name in every]
    assert len(set(found)) == len(every)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-") and name[0].isalnum() for name in found)
    assert max(map(len, found)) <= 100
