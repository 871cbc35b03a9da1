"""`kvplan check`: outcomes, exit codes, what is said beside them, and notes at lines for CI."""

import json
import re
from pathlib import Path

import pytest
from each import each

import kvplan
from kvplan.cli.app import main
from kvplan.engines.vllm.commandline import COMMANDS
from kvplan.questions.emit import emitted

#: Form that `fit --emit` writes -> the name of such a file.
NAMES = {"shell": "a.sh", "compose": "compose.yml", "k8s": "d.yaml", "systemd": "u.service", "modelfile": "Modelfile"}
PRIVATE = {
    "model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64,
    "vocab_size": 100, "intermediate_size": 128, "max_position_embeddings": 4096, "torch_dtype": "bfloat16",
}  # fmt: skip
COMPOSE = """services:
  chat:
    image: vllm/vllm-openai:v0.33.0
    command: >
      Qwen/Qwen3-14B
      --max-model-len {length}
      --gpu-memory-utilization 0.6
    gpus: all
  embed:
    image: vllm/vllm-openai:v0.33.0
    command: ["BAAI/bge-m3", "--gpu-memory-utilization", "{share}"]
    gpus: all
"""


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def compose(length: str = "32768", share: str = "0.3") -> str:
    Path("compose.yml").write_text(COMPOSE.format(length=length, share=share))
    return "compose.yml"


def test_servers_on_the_same_cards_see_what_is_left() -> None:
    found = kvplan.check([compose()], gpu="h100")
    assert found.starts
    assert [one.beside for one in found.servers] == [(), ("chat",)]
    found = kvplan.check([compose(share="0.45")], gpu="h100")
    assert [one.outcome.status for one in found.servers] == ["starts", "does not start"]
    assert "less than desired GPU memory utilization" in found.servers[1].outcome.reason
    assert kvplan.check([compose(share="0.45")], gpu="h200").servers[0].outcome.taken_bytes > 80e9  # a share of a larger card


def test_a_pull_request_that_asks_for_too_long_requests_fails_at_that_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", compose(), "--gpu", "h100", "-f", "github"]) == 0
    assert capsys.readouterr().out == "kvplan: 2 of 2 servers start\n"
    assert main(["check", compose(length="40960"), "--gpu", "l40s", "-f", "github"]) == 1
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("::error file=compose.yml,line=6,title=kvplan%3A does not start::DOES NOT START: vllm 0.33.0")
    assert main(["check", "compose.yml", "--gpu", "l40s", "-o", "out.sarif"]) == 1
    run = json.loads(Path("out.sarif").read_text())["runs"][0]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "compose.yml"}, "region": {"startLine": 6}}
    assert run["results"][0]["level"] == "error"


def test_the_longest_request_that_would_start_is_said() -> None:
    found = kvplan.check(command=["vllm", "serve", "Qwen/Qwen3-8B", "--max-model-len", "40960"], gpu="4090").servers[0].outcome
    assert found.status == "does not start"
    assert found.longest is not None
    again = kvplan.check(command=["vllm", "serve", "Qwen/Qwen3-8B", "--max-model-len", str(found.longest)], gpu="4090")
    assert again.starts
    one_more = kvplan.check(command=["vllm", "serve", "Qwen/Qwen3-8B", "--max-model-len", str(found.longest + 16)], gpu="4090")
    assert not one_more.starts


@each(
    ("line", "status", "says"),
    [
        ("vllm serve Qwen/Qwen3-8B --swap-spce 4", "does not start", "unrecognized arguments: --swap-spce"),
        ("vllm serve Qwen/Qwen3-8B --max-num-seqs 1k", "does not start", "its parser refuses it"),
        ("vllm serve Qwen/Qwen3-8B --max-model-len $LEN", "not decided", "no value here for --max-model-len"),
        ("vllm serve ./private", "not decided", "is a local path or private"),
        ("vllm serve --max-num-seqs 4", "not decided", "no model is named here"),
        ("vllm serve Qwen/Qwen3-8B --tensor-parallel-size 3", "does not start", "32 attention heads do not divide"),
        ("vllm serve Qwen/Qwen3-8B --kv-cache-dtype nvfp4", "does not start", "no attention backend takes kv_cache_dtype nvfp4"),
        ("lmdeploy serve api_server Qwen/Qwen3-8B --tp 3", "does not start", "cannot be divided by tp 3"),
        ("trtllm-serve Qwen/Qwen3-8B --tp_size 3", "does not start", "32 heads over tp_size 3"),
        ("vllm serve BAAI/bge-m3", "starts", ""),
        ("ollama serve", "starts", ""),
        ("OLLAMA_NUM_PARALLEL=4 ollama run hf.co/Qwen/Qwen3-8B-GGUF:Q8_0", "starts", ""),
        ("vllm serve Qwen/Qwen3-8B --cpu-offload-gb 4", "starts", ""),
        ("python -m sglang.launch_server --model-path Qwen/Qwen3-8B --tp 2", "starts", ""),
        ("llama-server -m /models/Qwen3-8B-Q4_K_M.gguf -c 32768 -np 4 -ngl 99", "starts", ""),
        ("llama-server -m /models/Qwen3-32B-Q8_0.gguf -c 40960 -np 1 -ngl 99", "starts", ""),
        ("lmdeploy serve api_server Qwen/Qwen3-8B --session-len 8192", "starts", ""),
        ("trtllm-serve Qwen/Qwen3-8B --max_seq_len 8192", "starts", ""),
        ("mlx_lm.server --model Qwen/Qwen3-8B", "starts", ""),
        ("transformers serve Qwen/Qwen3-8B", "starts", ""),
    ],
)
def test_outcomes(line: str, status: str, says: str) -> None:
    (one,) = kvplan.check(command=line, gpu="h100").servers
    assert one.outcome.status == status, one.outcome.reason
    assert says in one.outcome.reason


def test_what_no_memory_changes_shows_none_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal whatever the card has: no ledger, and no length that would help; an embedder has no tokens."""
    assert main(["check", "--gpu", "h100:4", "--", "vllm", "serve", "Qwen/Qwen3-8B", "--tensor-parallel-size", "3"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("DOES NOT START")
    assert "where the memory goes" not in out
    assert main(["receipt", "qwen3-8b", "--gpu", "h100", "--tp", "3"]) == 1
    assert capsys.readouterr().out.startswith("DOES NOT START on 3 x h100")
    assert main(["check", "--gpu", "h100", "--", "vllm", "serve", "BAAI/bge-m3"]) == 0
    assert capsys.readouterr().out.startswith("STARTS: vllm · BAAI/bge-m3: its model keeps no cache\n")


def test_cards_that_nobody_named_are_said() -> None:
    for gpu, words in (("h100", "it takes 2 cards and one was named: each is counted like it"), ("h100:2", "")):
        (one,) = kvplan.check(command="vllm serve Qwen/Qwen3-8B --tensor-parallel-size 2", gpu=gpu).servers
        assert [note for note in one.notes if note.startswith("it takes")] == ([words] if words else [])


def test_what_is_not_counted_is_said() -> None:
    (one,) = kvplan.check(command="VLLM_ATTENTION_BACKEND=X vllm serve ./Qwen3-8B --cpu-offload-gb 4", gpu="h100").servers
    assert one.notes == (
        "not counted: --cpu-offload-gb, VLLM_ATTENTION_BACKEND",
        "`./Qwen3-8B` is taken for Qwen3-8B, by its name",
    )


def test_a_private_model_is_known_by_its_config() -> None:
    Path("c.json").write_text(json.dumps(PRIVATE))
    found = kvplan.check(command="vllm serve /models/ours", gpu="h100", model_config=["/models/ours=c.json"])
    assert found.starts
    with pytest.raises(kvplan.InputError):
        kvplan.check(command="vllm serve a/b", gpu="h100", model_config=["c.json"])


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    Path("none.sh").write_text("echo hello\n")
    assert main(["check", "none.sh"]) == 0
    assert "no server is started here" in capsys.readouterr().out
    assert main(["check", "--gpu", "h100", "--", "vllm", "serve", "Qwen/Qwen3-8B"]) == 0
    assert main(["check", "--gpu", "4090", "--", "vllm", "serve", "Qwen/Qwen3-32B"]) == 1
    assert main(["check", "--gpu", "h100", "--", "vllm", "serve", "./x"]) == 2
    assert main(["check", "--gpu", "h100", "--allow-undecided", "--", "vllm", "serve", "./x"]) == 0
    assert main(["check", "missing.yml", "--gpu", "h100"]) == 2
    assert main(["check", "--", "vllm", "serve", "Qwen/Qwen3-8B"]) == 2
    assert "--gpu NAME" in capsys.readouterr().err
    assert main(["check"]) == 2
    assert main(["check", "--gpu", "h100", "vllm", "serve", "x", "--max-model-len", "4"]) == 2
    assert "`--`" in capsys.readouterr().err


def test_what_was_read_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--parse-only", "-f", "json", "--", "vllm", "serve", "a/b", "-tp", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["servers"] == [
        {"engine": "vllm", "model": "a/b", "options": {"tensor_parallel_size": 2}}
    ]
    assert main(["check", "--parse-only", compose()]) == 0
    shown = capsys.readouterr().out
    assert "vllm 0.33.0 · Qwen/Qwen3-14B · compose.yml:3" in shown
    assert main(["check", "--parse-only", "--", "vllm", "serve", "a/b", "--max-model-length", "3"]) == 0
    assert "did you mean `--max-model-len`?" in capsys.readouterr().out.replace("\n", " ")


def test_the_smallest_change_that_makes_it_start_is_a_diff(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.sh").write_text("vllm serve Qwen/Qwen3-8B \\\n  --max-model-len 40960 --port 1\n")
    assert main(["check", "a.sh", "--gpu", "4090", "--fix"]) == 0
    shown = capsys.readouterr().out
    assert "-  --max-model-len 40960 --port 1\n+  --max-model-len 29696 --port 1\n" in shown
    assert Path("a.sh").read_text().endswith("40960 --port 1\n")  # never in place
    assert main(["check", "a.sh", "--gpu", "4090", "--fix", "-o", "b.sh"]) == 0
    assert main(["check", "b.sh", "--gpu", "4090"]) == 0
    capsys.readouterr()
    assert (
        main(["check", compose(length="40960"), "--gpu", "l40s", "--fix"]) == 1
    )  # what helps the one leaves nothing for the other
    shown_both = capsys.readouterr()
    assert "+      --gpu-memory-utilization 0." in shown_both.out
    assert "with that: DOES NOT START: vllm 0.33.0 · BAAI/bge-m3" in shown_both.err


#: Input (file, text, cards) -> what the changed line has: how many layers moves with what is known of buffers.
FIXES = {
    "more of its cards": ("a.sh", "vllm serve Qwen/Qwen3-14B --max-model-len 40960\n", "rtx-4090:2", " --tensor-parallel-size 2"),
    "a narrower cache": (
        "compose.yml",
        "services:\n  a:\n    image: vllm/vllm-openai:v0.33.0\n    command:\n      - Qwen/Qwen3-8B\n"
        "      - --gpu-memory-utilization\n      - '0.97'\n      - --kv-cache-dtype\n      - auto\n",
        "21.5GiB",
        "      - fp8",
    ),
    "layers in host memory": (
        "l.sh", "llama-server -m Meta-Llama-3.1-70B-Instruct-Q4_K_M.gguf -fa on -ngl 99 -c 8192\n", "rtx-4090", r" -ngl 4\d ",
    ),
    "experts in host memory": (
        "m.sh", "llama-server -m gpt-oss-120b-mxfp4.gguf -ngl 99 -c 8192\n", "rtx-4090", r" --n-cpu-moe 2\d ",
    ),
    "a Modelfile": (
        "Modelfile", "FROM llama3.3:70b\nPARAMETER num_gpu 99\nPARAMETER num_ctx 32768\n", "rtx-4090:2", r"PARAMETER num_gpu 3\d",
    ),
    "a variable": (
        "o.sh",
        "LLAMA_ARG_CACHE_TYPE_K=f16 LLAMA_ARG_CACHE_TYPE_V=f16 llama-server -m Qwen2.5-32B-Q4_K_M.gguf -ngl 99 -c 32768\n",
        "rtx-4090", "ARG_CACHE_TYPE_K=q.* ",
    ),
    "longer than the model": ("b.sh", "vllm serve Qwen/Qwen3-8B --max-model-len=100000 &\n", "h100", "--max-model-len=40960 &"),
}  # fmt: skip


@each("what", FIXES)
def test_every_kind_of_change_is_put_into_the_text_and_checked_again(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, text, card, put = FIXES[what]
    Path(name).write_text(text)
    assert main(["check", name, "--gpu", card, "--fix"]) == 0  # read again, it starts
    shown = capsys.readouterr()
    (new,) = [line for line in shown.out.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert re.search(put, new)
    assert shown.err.startswith("fix: ")


@each(
    ("line", "status", "says"),
    [
        ('vllm serve Qwen/Qwen3-8B --speculative-config \'{"model": "Qwen/Qwen3-0.6B"}\'', "starts", "drafter"),
        ('vllm serve Qwen/Qwen3-8B --speculative-config \'{"model": "./eagle3"}\'', "may start", "its drafter `./eagle3`"),
        ("llama-server -m Qwen3-8B-Q4_K_M.gguf -md Qwen3-0.6B-Q8_0.gguf -ngld all -c 8192", "starts", "drafter"),
        ("llama-server -m Qwen3-8B-Q4_K_M.gguf -md mine.gguf -c 8192", "may start", "its drafter `mine.gguf` is not counted"),
        ("mlx_lm.server --model Qwen/Qwen3-8B --draft-model Qwen/Qwen3-0.6B", "starts", "its drafter takes 5.49 GiB"),
        ("lmdeploy serve api_server Qwen/Qwen3-8B --speculative-draft-model Qwen/Qwen3-0.6B", "may start", "is not counted"),
    ],
)
def test_a_drafter_is_counted_or_said(line: str, status: str, says: str) -> None:
    (one,) = kvplan.check(command=line, gpu="h100").servers
    found = one.outcome
    assert found.status == status, found.reason
    budget = found.receipt.budget if found.receipt is not None else None
    lines = [item.name for item in budget.ledger.lines] if budget is not None and budget.ledger is not None else []
    lines += [item.name for place in found.laid.spread.places for item in place.lines] if found.laid is not None else []
    assert any(says in text for text in [found.reason, *one.notes, *lines]), (found.reason, one.notes, lines)


@each(
    ("line", "status", "says"),
    [
        ("llama-server -m Qwen2.5-32B-Q4_K_M.gguf -c 65536", "starts", "llama.cpp then chooses by itself: -c 65536 -ngl 4"),
        ("llama-server -m Qwen2.5-32B-Q4_K_M.gguf", "starts", "llama.cpp then chooses by itself: -c 1"),
        ("llama-server -m Qwen2.5-32B-Q4_K_M.gguf -c 65536 --fit off", "does not start", ""),
        ("llama-server -m Qwen2.5-32B-Q4_K_M.gguf -c 65536 -ngl 99", "does not start", ""),
        ("llama-server -m gpt-oss-120b-mxfp4.gguf -c 8192", "starts", "the experts of 2"),
        (
            "OLLAMA_CONTEXT_LENGTH=131072 OLLAMA_NUM_PARALLEL=2 ollama run llama3.1:8b",
            "starts",
            "ollama then chooses by itself: num_",
        ),
        ("llama-server -m Qwen2.5-7B-Q4_K_M.gguf -c 8192", "starts", ""),
    ],
)
def test_a_server_that_deals_itself_out_starts_with_what_it_chooses(line: str, status: str, says: str) -> None:
    """What nobody said, layers on cards and a context, the engine takes back until it fits (common/fit.cpp)."""
    found = kvplan.check(command=line, gpu="rtx-4090").servers[0].outcome
    assert found.status == status, found.reason
    chosen = [note for note in found.notes if "chooses by itself" in note]
    assert len(chosen) == bool(says), chosen
    assert all(says in note for note in chosen), chosen


def test_an_image_of_a_build_is_checked_by_that_builds_rules() -> None:
    """A build is a release, too: b9459 keeps the logits of a whole batch, b9460 one a slot, b6700 no prompt cache (#23861)."""
    found = {}
    for build in (6700, 9459, 9460):
        line = f"docker run --gpus all ghcr.io/ggml-org/llama.cpp:server-cuda-b{build} -m Qwen3-8B-Q4_K_M.gguf -c 8192"
        laid = kvplan.check(command=line, gpu="rtx-4090").servers[0].outcome.laid
        assert laid is not None
        assert laid.engine_version == f"b{build}"
        found[build] = {one.name: one.low for place in laid.spread.places for one in place.lines}
    assert found[9459]["compute"] > found[9460]["compute"]
    assert "prompt cache" not in found[6700]
    assert "prompt cache" in found[9459]


def test_how_a_drafter_drafts_is_known_by_its_name() -> None:
    for model, method in (
        ("a/EAGLE3-b", "eagle3"),
        ("a/eagle-b", "eagle"),
        ("ngram", "ngram"),
        ("Qwen/Qwen3-0.6B", "draft_model"),
    ):
        asked = COMMANDS.asked({"speculative_config": {"model": model}}, {}, ("speculative_config",))
        assert json.loads(asked.options["speculative_config"])["method"] == method
        assert asked.drafter == ("" if method == "ngram" else model)


def test_requests_beyond_what_the_model_is_made_for_are_refused_as_the_server_does() -> None:
    line = "vllm serve Qwen/Qwen3-8B --max-model-len 100000"
    found = kvplan.check(command=line, gpu="h100").servers[0].outcome
    assert found.reason == "User-specified max_model_len (100000) is greater than the derived max_model_len (40960)"
    assert found.longest == 40960
    assert kvplan.check(command=f"VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 {line}", gpu="h100").starts
    asked = {"command": "vllm serve /models/ours --max-model-len 16384", "gpu": "h100", "model_config": ["/models/ours=c.json"]}
    for ropes, starts in (
        ({"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, True),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, False),
        ({}, True),  # a config that was kept without its ropes does not say
    ):
        Path("c.json").write_text(json.dumps({**PRIVATE, **ropes}))
        assert kvplan.check(**asked).starts is starts, ropes  # type: ignore[arg-type]
    line = "python -m sglang.launch_server --model-path Qwen/Qwen3-8B --context-length 100000"
    assert "derived context_length (40960)" in kvplan.check(command=line, gpu="h100").servers[0].outcome.reason


def test_layers_over_cards_and_host_are_placed_as_they_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    line = "llama-server -m Meta-Llama-3.1-70B-Instruct-Q4_K_M.gguf -fa on "
    few = kvplan.check(text=line + "-ngl 20 -c 8192", gpu="rtx-4090").servers[0].outcome
    assert few.laid is not None
    assert (few.status, few.laid.spread.offloaded) == ("starts", "20/81")
    assert 10e9 < few.taken_bytes < 14e9
    assert kvplan.check(text=line + "-ngl 99 -c 8192", gpu="rtx-4090:2").starts
    uneven = kvplan.check(text=line + "-ngl 60 -c 32768 -ts 3,1", gpu="rtx-4090,rtx-3090").servers[0].outcome
    assert uneven.status == "does not start"
    assert uneven.reason.startswith("CUDA0 is ")
    shared = "llama-server -m Meta-Llama-3.1-70B-Instruct-BF16.gguf -ngl 40 -c 8192 -fit off"  # each alone has room in it
    assert kvplan.check(text=shared, gpu="gb10").servers[0].outcome.reason.startswith("the memory that both share is 3")
    Path("two.sh").write_text(f"export CUDA_VISIBLE_DEVICES=0\n{line}-ngl 20 -c 8192 &\n{line}-ngl 30 -c 8192\n")
    assert main(["check", "two.sh", "--gpu", "rtx-4090"]) == 1  # the second is left what the first does not take
    assert "20/81 layers on the cards" in capsys.readouterr().out


@each("engine", ["vllm", "vllm@0.11.0", "sglang", "llama.cpp", "tensorrt-llm", "lmdeploy", "mlx-lm", "exllamav3", "ollama"])
def test_what_fit_emits_is_read_back_to_the_same_verdict(engine: str) -> None:
    gguf = {"weights_dtype": "q4_k_m"} if engine in {"llama.cpp", "ollama"} else {}
    found = kvplan.try_fit("qwen3-8b", "h100", engine=engine, context="4k", batch_size=2, **gguf)
    assert found.fits
    written = 0
    for form, name in NAMES.items():
        try:
            text = emitted(found, form)
        except kvplan.InputError:
            continue
        written += 1
        Path(name).write_text(text)
        again = kvplan.check([name], gpu="h100")
        assert again.starts, form
        last = again.servers[-1]
        assert last.server.engine == engine.partition("@")[0]
        assert not last.server.unknown
        assert not any(note.startswith("not counted") for note in last.notes)
        outcome = last.outcome
        asked = outcome.laid or (outcome.receipt or outcome.fit).question.model  # type: ignore[union-attr]
        assert (asked.model if outcome.laid else asked.name) == "qwen3-8b"  # type: ignore[union-attr]
    assert written == {"mlx-lm": 2, "ollama": 5}.get(engine, 4)


def test_a_file_alone_on_stdout_and_the_verdict_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "llama-3.1-70b", "--gpu", "h100:4", "-s", "8k", "-b", "4", "--emit", "k8s"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("# kvplan: llama-3.1-70b")
    assert "nvidia.com/gpu: 4" in shown.out
    assert "mountPath: /dev/shm" in shown.out
    assert shown.err.startswith("FITS on 4 x h100")
    Path("d.yaml").write_text(shown.out)
    assert kvplan.check(["d.yaml"], gpu="h100:4").servers[0].server.gpus == 4
    assert main(["fit", "qwen3-8b", "--gpu", "h100", "-b", "1", "--emit", "modelfile"]) == 2
    assert main(["fit", "qwen3-8b", "--gpu", "h100", "-b", "1", "--emit", "toml"]) == 2
    assert "one of shell, compose" in capsys.readouterr().err
