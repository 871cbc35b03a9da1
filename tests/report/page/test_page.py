"""The page: what it embeds is what the commands print, nothing of a stranger's runs, and it is small."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from page_settings import HOSTILE, settings

import kvplan
from kvplan.cli.app import main
from kvplan.questions.page import Page
from kvplan.report.page import asset_files, html
from kvplan.report.page.data import data

MODELS = ("llama-3.1-8b", "gemma-3-27b", "qwen3.5-27b")


@pytest.fixture(scope="module")
def page() -> Page:
    return kvplan.page(
        MODELS, "rtx-4090,h100:2", engine="vllm,llama.cpp,ideal", kv_dtype="auto,fp8", seq_len="3000,32k", batch_size="1,3,16"
    )


def asked(page: Page, at: dict[str, int]) -> list[str]:
    """The part of a command that says engine and dtype."""
    dtype = page.kv_dtypes[at["dtype"]]
    return ["-e", page.engines[at["engine"]], *([] if dtype == "auto" else ["--kv-dtype", dtype])]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    """(exit code, the JSON, what was said) of a command."""
    code = main([*arguments, "-f", "json"])
    shown = capsys.readouterr()
    return code, json.loads(shown.out) if shown.out else None, shown.err


class Decoded:
    """What the page's script makes of the embedded grid; tests/report/page/test_browser.py looks at the script itself."""

    def __init__(self, page: Page) -> None:
        self.data = json.loads(json.dumps(data(page)))

    def text(self, index: int) -> str:
        found: str = self.data["texts"][index]
        return found

    def number(self, value: Any, batch: int) -> int | None:
        if value is None:
            return None
        if isinstance(value, list):
            return None if value[batch] is None else int(value[batch])
        return int(value["="]) if isinstance(value, dict) else int(value) * int(self.data["batches"][batch])

    def cache(self, at: dict[str, int]) -> Any:
        d = self.data
        return d["caches"][(at["model"] * len(d["engines"]) + at["engine"]) * len(d["dtypes"]) + at["dtype"]]

    def start(self, at: dict[str, int]) -> Any:
        d = self.data
        place = (at["model"] * len(d["engines"]) + at["engine"]) * len(d["dtypes"]) + at["dtype"]
        return d["starts"][place * len(d["cards"]) + at["card"]][at["length"]]


def test_every_number_is_what_estimate_prints_at_200_random_settings(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    found, wrong, refused = Decoded(page), [], 0
    known: dict[str, Any] = {}
    for at in settings(page):
        held = ["-s", str(page.seq_lens[at["length"]]), "-b", str(page.batch_sizes[at["batch"]])]
        command = ["estimate", page.models[at["model"]].source, *asked(page, at), *held]
        if str(command) not in known:
            known[str(command)] = printed(capsys, *command)
        code, told, said = known[str(command)]
        cache = found.cache(at)
        if "no" in cache:
            refused += 1
            reason = told["estimates"][0]["not_predicted"] if code == 0 else said
            if found.text(cache["no"]).split("`")[0] not in reason:
                wrong.append((command, found.text(cache["no"]), reason))
            continue
        one, row, b = told["estimates"][0], cache["rows"][at["length"]], at["batch"]
        here = {
            "total_bytes": found.number(row["total"], b), "payload_bytes": found.number(row["payload"], b),
            "bookkeeping_bytes": found.number(row["beside"], b), "bytes_per_token": found.number(row["token"], b),
            "evidence": found.text(cache["evidence"]), "kv_dtype": found.text(cache["stored"]),
            "engine_version": found.text(cache["version"]),
            "groups": [
                (found.text(kind), count, found.number(size, b))
                for (kind, count, _), size in zip(cache["kinds"], row["kinds"], strict=True) if found.number(size, b) is not None
            ],
            "notes": [found.text(note) for note in row["notes"]],
        }  # fmt: skip
        there = {key: one[key] for key in here} | {"groups": [(g["kind"], g["count"], g["bytes"]) for g in one["groups"]]}
        there["notes"] = [note for note in one["notes"] if "images were given" not in note]
        if here != there:
            wrong.append((command, here, there))
        parts = sum(found.number(size, b) or 0 for size in row["parts"])
        ideal = found.number(row["need"], b)
        if ideal is not None and ideal + parts != one["total_bytes"]:
            wrong.append((command, "parts", ideal, parts))
        waste = one.get("details", {}).get("waste")
        if waste is not None and sum(waste.values()) != parts:
            wrong.append((command, "waste", waste, parts))
    assert not wrong, wrong[:3]
    assert 20 < refused < 120  # settings that an engine refuses are settings, too


def test_every_start_is_what_fit_prints(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    found, wrong = Decoded(page), []
    names = ("name", "bytes", "low", "high", "basis", "source")
    cards, lengths = ",".join(page.cards), ",".join(map(str, page.seq_lens))
    for engine in (0, 1):  # requests: every cell
        at = {"engine": engine, "dtype": 0}
        command = ["fit", *MODELS, "--gpu", cards, *asked(page, at), "-s", lengths, "--table"]
        told = iter(printed(capsys, *command)[1]["capacity"])
        for model in range(len(MODELS)):
            for card in range(len(page.cards)):
                for length in range(len(page.seq_lens)):
                    start, cell = found.start({**at, "model": model, "card": card, "length": length}), next(told)
                    here = (found.text(start["is"]), *(start.get(key) for key in ("best", "low", "high")))
                    there = (cell["verdict"], *(cell[f"requests{key}"] for key in ("", "_low", "_high")))
                    if here != there:
                        wrong.append((command, here, there))
    looked = 0
    for at in settings(page, 10):  # lines of the memory: some
        start = found.start(at)
        if "lines" not in start or "table" in start:  # the latter: `fit` alone lays the model out over card and host
            continue
        looked += 1
        command = ["fit", page.models[at["model"]].source, "--gpu", page.cards[at["card"]], *asked(page, at)]
        one = printed(capsys, *command, "-s", str(page.seq_lens[at["length"]]))[1]["fits"][0]
        lines = [found.data["lines"][place] for place in start["lines"]]
        here_lines = [(found.text(line[0]), *map(int, line[1:4]), found.text(line[4]), found.text(line[5])) for line in lines]
        there_lines = [tuple(line[name] for name in names) for line in one["budget"] if line["bytes"] or line["high"]]
        left = tuple(map(int, found.data["lines"][start["left"]][1:4]))
        asked_left = tuple(one[f"budget{key}_bytes"] for key in ("", "_low", "_high"))
        if here_lines != there_lines or left != asked_left or start["best"] != one["batch_size"]:
            wrong.append((command, here_lines, there_lines, left, asked_left))
    assert not wrong, wrong[:3]
    assert looked > 2


class Seen(HTMLParser):
    """The elements of a page, and what stands in those that are not text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_data(self, data: str) -> None:
        last = self.tags[-1][0] if self.tags else ""
        if last in self.inside and self.inside[last][-1] == "":
            self.inside[last][-1] = data
        else:
            self.words.append(data)


@pytest.fixture(scope="module")
def hostile() -> Page:
    model = kvplan.load("llama-3.1-8b")
    named = type(model)(**{**{name: getattr(model, name) for name in model.__struct_fields__}, "name": HOSTILE})
    return kvplan.page(
        [named], "rtx-4090", engine="ideal,vllm", kv_dtype="auto,fp8", seq_len="8k", batch_size="1", weights="16GB"
    )


def test_a_hostile_name_is_text_and_the_policy_names_what_may_run(hostile: Page) -> None:
    text = html(hostile)
    seen = Seen()
    seen.feed(text)
    assert [tag for tag, _ in seen.tags if tag == "script"] == ["script"] * 2
    assert not [tag for tag, _ in seen.tags if tag in {"img", "iframe", "object", "base", "form"} - {"form"}]
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on") or name == "style"]
    assert not [value for _, attributes in seen.tags for name, value in attributes.items() if name in {"src", "href"}]
    embedded, script = seen.inside["script"]
    assert "<" not in embedded
    assert HOSTILE in json.loads(embedded)["texts"]
    policy = next(attributes["content"] for tag, attributes in seen.tags if "http-equiv" in attributes) or ""
    for kind, inner in (("script-src", script), ("style-src", seen.inside["style"][0])):
        assert f"{kind} 'sha256-{b64encode(sha256(inner.encode()).digest()).decode()}';" in policy
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"\beval\(|new Function|innerHTML|insertAdjacentHTML|document\.write|fetch\(|XMLHttpRequest", script)
    typed = next(word for word in json.loads(embedded)["texts"] if word.startswith("'") and "script" in word)
    assert typed.startswith("'</script>")  # quoted for a shell


def test_the_page_is_small_and_says_whose_work_is_in_it(page: Page) -> None:
    text = html(page)
    assert len(text.encode()) < 300_000
    assert "https://github.com/leeoniya/uPlot (v1.6.32)" in text
    assert "Permission is hereby granted, free of charge" in text
    assert "Leon Sorokin" in text
    assert not re.search(r"""(?:src|href)=["']?https?:""", text)


def test_pages_of_a_site_share_their_files_and_lead_home(page: Page) -> None:
    text = html(page, title="Three", assets="../files", home="../index.html")
    assert len(text) < len(html(page)) - 60_000
    assert '<a href="../index.html">' in text
    assert "<title>Three · kvplan</title>" in text
    named = re.findall(r'(?:src|href)="\.\./files/([^"]+)"', text)
    assert sorted(named) == sorted(name for name in asset_files() if not name.endswith(".txt"))


def test_numbers_beyond_javascripts_are_exact() -> None:
    config = {
        "model_type": "llama", "num_hidden_layers": 4_000, "num_attention_heads": 8192, "num_key_value_heads": 8192,
        "head_dim": 128, "hidden_size": 8192, "vocab_size": 100,
    }  # fmt: skip
    made = kvplan.page(config, "", engine="ideal", kv_dtype="auto", seq_len="1000003", batch_size="3")
    total = kvplan.estimate(config, seq_len=1_000_003, batch_size=3).total_bytes
    row = data(made)["caches"][0]["rows"][0]
    assert total > 2**53
    assert int(row["total"]) * 3 == total
    assert isinstance(row["total"], str)


def test_the_command_writes_the_page_and_the_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["report", "gpt2", "--gpu", "rtx-4090", "-e", "ideal", "--kv-dtype", "auto", "-s", "1k", "-b", "2"]
    target = tmp_path / "report.html"
    assert main([*asked, "-o", str(target)]) == 0
    assert capsys.readouterr().err.startswith(f"wrote {target}: html, ")
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main([*asked, "-f", "csv"]) == 0
    assert "gpt2,ideal,1,auto,bfloat16,2,1024," in capsys.readouterr().out
    assert main(["report", "gpt2", "-e", "ideal", "-s", "1:20000:1"]) == 2
    assert "settings are too many for one page" in capsys.readouterr().err
    assert main(["report", "gpt2", "-e", "vllm", "--kv-dtype", "q8_0"]) == 2
    assert "vllm has no kv_cache_dtype" in capsys.readouterr().err
