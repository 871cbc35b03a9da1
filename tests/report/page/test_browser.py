"""The page in a real browser: `make look` (or `pytest -m look`), where Chromium is; axe-core's checks, too, where KVPLAN_AXE or
`node_modules` has it (`npm install axe-core`).
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
from page_settings import HOSTILE, settings

import kvplan
from kvplan.questions.page import Page
from kvplan.report.page import asset_files, html
from kvplan.units import human_bytes

pytestmark = [
    pytest.mark.look,
    pytest.mark.skipif(browser.found() is None, reason="no Chromium on this machine: apt-get install chromium"),
]
FIVE = ("llama-3.1-8b", "gemma-3-27b", "deepseek-v3", "qwen3.5-27b", "gpt-oss-120b")
WIDTHS = (400, 1400)
#: What a reader sees, in numbers: the one line above, then each section's table without its pictures.
READ = """(() => {
  const rows = (id) => [...document.querySelectorAll(`#${id} .drawn table`)].map((one) =>
    [...one.querySelectorAll("tbody tr, tfoot tr")].map((row) => [...row.children].map((cell) => cell.textContent)));
  return {
    said: document.getElementById("said").textContent, kinds: rows("kinds"), all: rows("all"), beyond: rows("beyond"),
    growth: rows("growth"), start: rows("start"), fits: rows("fits"),
    verdict: document.querySelector("#start .verdict").textContent,
    commands: [...document.querySelectorAll(".command code")].map((one) => one.textContent),
  };
})()"""


AXE = """axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}).then((told) => told.violations.map(
  (one) => `${one.id}: ${one.nodes.length} x ${one.nodes[0].html.slice(0, 200)} ${one.nodes[0].failureSummary}`))"""


@pytest.fixture(scope="module")
def page() -> Page:
    return kvplan.page(FIVE, "rtx-4090,h100-80gb,h200:8")


@pytest.fixture(scope="module")
def opened(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Tab]:
    path = tmp_path_factory.mktemp("page") / "report.html"
    text = html(page)
    assert len(text.encode()) < 10**6
    path.write_text(text, encoding="utf-8")
    with browser.tab() as tab:
        tab.open(path)
        seconds = tab.seconds()
        print(f"five models: {len(text.encode()):,} bytes, ready after {seconds:.3f} s of processor time")
        assert seconds < 1
        yield tab


def choose(tab: browser.Tab, at: dict[str, int]) -> Any:
    """Every choice of a page as a person would leave it, and what the page then shows."""
    keys = {"model": "model", "engine": "engine", "dtype": "dtype", "length": "length", "batch": "batch", "card": "card"}
    tab.run(
        f"(() => {{ const at = {json.dumps(at)}; for (const [key, id] of Object.entries({json.dumps(keys)})) {{"
        "const select = document.getElementById(id); select.selectedIndex = at[key];"
        "select.dispatchEvent(new Event('change')); } })()"
    )
    return tab.run(READ)


def test_every_number_is_the_commands_at_200_random_settings(page: Page, opened: browser.Tab) -> None:
    wrong: list[Any] = []
    for number, at in enumerate(settings(page)):
        seen = choose(opened, at)
        model, engine, dtype = page.models[at["model"]], page.engines[at["engine"]], page.kv_dtypes[at["dtype"]]
        length, batch = page.seq_lens[at["length"]], page.batch_sizes[at["batch"]]
        wrong += [(at, found) for found in _cache(seen, model.source, engine, dtype, length, batch)]
        if number % 10 == 0:
            wrong += [(at, found) for found in _others(seen, page, engine, dtype, length, batch)]
            wrong += [(at, found) for found in _fit(seen, model.source, engine, dtype, length, page.cards[at["card"]])]
    assert not wrong, wrong[:4]
    assert not opened.said
    assert [url.partition(":")[0] for url in opened.requests] == ["file"]


def _asked(model: str, engine: str, dtype: str, length: int, batch: int) -> Any:
    try:
        return kvplan.try_estimate(model, engine=engine, kv_dtype=dtype, seq_len=length, batch_size=batch)
    except kvplan.InputError as problem:
        return kvplan.NotPredicted(reason=str(problem))


def _cache(seen: Any, model: str, engine: str, dtype: str, length: int, batch: int) -> Iterator[Any]:
    """What differs from `kvplan estimate`."""
    found = _asked(model, engine, dtype, length, batch)
    if isinstance(found, kvplan.NotPredicted):
        if found.reason not in seen["said"]:
            yield seen["said"], found.reason
        return
    if f"{human_bytes(found.total_bytes)} = {found.total_bytes:,} bytes" not in seen["said"]:
        yield seen["said"], found.total_bytes
    kinds = [(row[0], row[1], row[4], row[5]) for row in seen["kinds"][0][:-1]]
    asked = [(g.kind, f"{g.count:,}" if g.count else "", human_bytes(g.bytes), f"{g.bytes:,}") for g in found.groups]
    if kinds != asked:
        yield kinds, asked
    waste = {k: v for k, v in found.details.get("waste", {}).items() if v}
    if waste and [row[4] for row in seen["beyond"][0][1:-1]] != [f"{v:,}" for v in waste.values()]:
        yield seen["beyond"], waste
    if engine != "ideal" and seen["beyond"] and seen["beyond"][0][-1][4] != f"{found.total_bytes:,}":
        yield seen["beyond"], found.total_bytes


def _others(seen: Any, page: Page, engine: str, dtype: str, length: int, batch: int) -> Iterator[Any]:
    """What differs from `kvplan compare` of all models, in the table and behind the curves."""
    for index, model in enumerate(page.models):
        found = _asked(model.source, engine, dtype, length, batch)
        row = seen["all"][0][index]
        told = "" if isinstance(found, kvplan.NotPredicted) else f"{found.total_bytes:,}"
        if row[0] != model.name or row[3] != told:
            yield row, told
        curve = seen["growth"][0][page.seq_lens.index(length)][index + 1]
        if curve != (told or "not predicted"):
            yield curve, told


def _fit(seen: Any, model: str, engine: str, dtype: str, length: int, card: str) -> Iterator[Any]:
    """What differs from `kvplan fit`."""
    try:
        found = kvplan.try_fit(model, card, engine=engine, kv_dtype=dtype, context=length)
    except kvplan.InputError as problem:
        if str(problem) not in seen["verdict"]:
            yield seen["verdict"], str(problem)
        return
    if found.not_predicted:
        if found.not_predicted not in seen["verdict"]:
            yield seen["verdict"], found.not_predicted
        return
    if f"{found.batch_size:,}" not in seen["verdict"]:
        yield seen["verdict"], found.batch_size
    if seen["start"]:
        lines = [row[2] for row in seen["start"][0]]
        asked = [f"{line.bytes:,}" for line in (*found.budget.lines, found.budget.cache) if line.bytes or line.high]
        if lines != asked:
            yield lines, asked


def test_the_commands_that_it_shows_are_those_of_the_setting(page: Page, opened: browser.Tab) -> None:
    at = {"model": 1, "engine": 0, "dtype": 1, "length": 3, "batch": 2, "card": 2}
    assert choose(opened, at)["commands"] == [
        "kvplan estimate gemma-3-27b -e vllm --kv-dtype fp8 -s 16k -b 4",
        f"kvplan compare {' '.join(FIVE)} -e vllm --kv-dtype fp8 -s 16k -b 4",
        f"kvplan compare {' '.join(FIVE)} -e vllm --kv-dtype fp8 -s 2k,4k,8k,16k,32k,64k,128k -b 4",
        "kvplan fit gemma-3-27b --gpu h200-sxm-141gb:8 -e vllm --kv-dtype fp8 -s 16k",
        f"kvplan fit {' '.join(FIVE)} --gpu {','.join(page.cards)} -e vllm --kv-dtype fp8 -s 2k,4k,8k,16k,32k,64k,128k --table",
    ]


def test_everything_is_done_with_keys_alone(opened: browser.Tab) -> None:
    opened.run("document.activeElement.blur(); scrollTo(0, 0)")
    reached: list[str] = []
    for _ in range(60):
        opened.key("Tab", 9)
        now = opened.run("document.activeElement.id || document.activeElement.tagName + ' ' + document.activeElement.className")
        if now in reached[:1]:
            break
        reached.append(now)
    assert reached[:6] == ["model", "engine", "dtype", "length", "batch", "card"]
    assert any(name.startswith("between-") for name in reached)
    assert sum(name.startswith("SUMMARY") for name in reached) >= 6
    opened.run("document.getElementById('length').focus()")
    before = opened.run("document.getElementById('said').textContent")
    opened.key("ArrowDown", 40)
    assert opened.run("document.getElementById('said').textContent") != before
    opened.run("document.getElementById('between-models').focus()")
    opened.key("ArrowRight", 39)
    assert opened.run("document.activeElement.id") == "between-engines"
    assert opened.run("document.querySelectorAll('#growth thead th').length") == 5  # tokens, and four engines
    opened.run("document.querySelector('#why summary').focus()")
    opened.key("Enter", 13, "\r")
    assert opened.run("document.querySelector('#why details').open")


def test_it_is_legible_at_both_widths_light_dark_and_in_print(opened: browser.Tab, tmp_path: Path) -> None:
    for width in WIDTHS:
        for dark in (False, True):
            opened.resize(width, dark=dark)
            assert opened.run("document.documentElement.scrollWidth") <= width  # nothing sticks out; tables scroll within
            assert opened.run("document.querySelector('#growth canvas').clientWidth") <= width
            texts = "[...document.querySelectorAll('td, th, p, li, label')]"
            least = opened.run(f"Math.min(...{texts}.map((one) => parseFloat(getComputedStyle(one).fontSize)))")
            assert least >= 12
    opened.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    assert not opened.said


def test_axe_finds_no_violation_of_wcag_2_1_a_and_aa(opened: browser.Tab) -> None:
    places = [Path(os.environ.get("KVPLAN_AXE", "axe.min.js")), Path("node_modules/axe-core/axe.min.js")]
    axe = next((path for path in places if path.is_file()), None)
    if axe is None:
        pytest.skip("axe-core is not here: npm install axe-core, or KVPLAN_AXE=…/axe.min.js")
    opened.run(f"{axe.read_text(encoding='utf-8')};1")
    found: list[Any] = []
    for width in WIDTHS:
        for dark in (False, True):
            opened.resize(width, dark=dark)
            for at in ({"dtype": 0}, {"dtype": 2}):  # an answer, and a refusal
                choose(opened, {"model": 1, "engine": 0, "length": 2, "batch": 1, "card": 1, **at})
                opened.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
                found += opened.run(AXE)
    assert not found, found[:5]


def test_a_hostile_name_runs_nothing_and_is_shown(tmp_path: Path) -> None:
    model = kvplan.load("llama-3.1-8b")
    named = type(model)(**{**{name: getattr(model, name) for name in model.__struct_fields__}, "name": HOSTILE})
    made = kvplan.page([named, "gpt2"], "rtx-4090", engine="ideal,vllm", seq_len="1k,8k", batch_size="1", weights="16GB")
    own, shared = tmp_path / "own.html", tmp_path / "shared.html"
    own.write_text(html(made), encoding="utf-8")
    shared.write_text(html(made, assets="."), encoding="utf-8")
    for name, text in asset_files().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for path in (own, shared):
        with browser.tab() as tab:
            tab.open(path)
            title = tab.run("document.title")
            assert title.endswith("· kvplan")
            assert HOSTILE in title
            assert tab.run("document.images.length") == 0
            assert tab.run("document.querySelector('#all tbody th').textContent") == HOSTILE
            assert HOSTILE in tab.run("document.querySelector('#model').textContent")
            assert not tab.said
            assert {url.partition(":")[0] for url in tab.requests} == {"file"}
