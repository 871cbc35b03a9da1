"""What people have on their disks: read, or told in one sentence what it is and what to give."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from doors import here, refused
from each import each
from golden import ROOT

import kvplan
from kvplan.errors import UnknownModel
from kvplan.loading import hub_name
from kvplan.loading.weights.find import find_weights

LLAMA = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64}
GGUF = ROOT / "tests" / "golden" / "gguf" / "llama-3.1-8b-q4km-like.gguf"


def put(folder: Path, name: str, data: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "meta-llama/Llama-3.1-8B-Instruct", "r": 16}
OTHERS: list[tuple[str, Any, str, str]] = [
    ("adapter_config.json", ADAPTER, "a LORA adapter of `meta-llama/Llama-3.1-8B-Instruct`", "kvplan estimate meta-llama/"),
    ("adapter_config.json", {"peft_type": "LORA"}, "a LORA adapter, which has no cache", "name the model"),
    ("adapter_config.json", {"peft_type": "\x1b[31m", "base_model_name_or_path": "; rm -rf /"}, "an adapter of", "that model"),
    ("model_index.json", {"_class_name": "FluxPipeline", "_diffusers_version": "0.30"}, "diffusers pipeline (FluxPipeline)", ""),
    ("checkpoint-9/config.json", LLAMA, "below it: checkpoint-9", "checkpoint-9"),
    ("snapshots/abc/config.json", LLAMA, "below it: snapshots/abc", "snapshots/abc"),
    ("readme.json", {}, "a folder without a config.json", ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "words", "hint"), OTHERS)
def test_a_folder_of_something_else_is_named(
    name: str, data: Any, words: str, hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, name, data)
    end = here(capsys, "estimate", str(tmp_path))
    refused(end, words=words)
    assert hint in end.err.partition("hint: ")[2]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.safetensors", "weights without a config"),
        ("x.nemo", "a NeMo archive"),
        ("x.onnx", "an ONNX graph"),
        ("x.pt", "a PyTorch checkpoint"),
        ("x.engine", "a TensorRT engine"),
    ],
)
def test_a_file_without_a_config_is_named(name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes(b"\x00")
    refused(here(capsys, "estimate", str(tmp_path / name)), words=words)
    put(tmp_path, "config.json", LLAMA)
    assert f"give its folder, `{tmp_path}`" in here(capsys, "estimate", str(tmp_path / name)).err


def test_of_checkpoints_the_last_is_proposed(tmp_path: Path) -> None:
    for step in (50, 100, 9):
        put(tmp_path, f"checkpoint-{step}/config.json", LLAMA)
    with pytest.raises(UnknownModel, match="checkpoint-9, checkpoint-50, checkpoint-100") as problem:
        kvplan.load(tmp_path)
    assert problem.value.hint == f"`kvplan estimate {tmp_path / 'checkpoint-100'}`"


def test_a_folder_with_one_gguf_model_is_that_model(tmp_path: Path) -> None:
    shutil.copy(GGUF, tmp_path / "Llama-Q4_K_M.gguf")
    (tmp_path / "mmproj-x.gguf").write_bytes(b"GGUF")
    found = kvplan.try_fit(tmp_path, "rtx-4090", context=4096, batch_size=1)
    assert found.question.engine == "llama.cpp"
    assert found.question.model == kvplan.load(tmp_path / "Llama-Q4_K_M.gguf")
    shutil.copy(GGUF, tmp_path / "Llama-Q8_0.gguf")
    with pytest.raises(UnknownModel, match=r"2 GGUF models: Llama-Q4_K_M.gguf, Llama-Q8_0.gguf"):
        kvplan.load(tmp_path)


#: Published files, and the models of the catalogue that they describe.
META = {
    "dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "multiple_of": 1024,
    "ffn_dim_multiplier": 1.3, "norm_eps": 1e-05, "rope_theta": 500000.0, "use_scaled_rope": True,
}  # fmt: skip
META_2 = {"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, "norm_eps": 1e-05, "vocab_size": -1}
MISTRAL = {
    "dim": 4096, "n_layers": 32, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32, "n_kv_heads": 8, "norm_eps": 1e-05,
    "vocab_size": 32000, "moe": {"num_experts_per_tok": 2, "num_experts": 8},
}  # fmt: skip
TENSORRT = {
    "architecture": "LlamaForCausalLM", "dtype": "bfloat16", "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "hidden_size": 4096, "head_size": 128, "intermediate_size": 14336, "vocab_size": 128256,
    "max_position_embeddings": 131072, "tie_word_embeddings": False, "mapping": {"tp_size": 2},
    "quantization": {"quant_algo": None, "kv_cache_quant_algo": None},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data", "same"),
    [
        ("params.json", META, "llama-3.1-8b"),
        ("params.json", META_2, "llama-2-7b"),
        ("params.json", MISTRAL, "mixtral-8x7b"),
        ("config.json", TENSORRT, "llama-3.1-8b"),
        ("config.json", {"version": "0.17", "pretrained_config": TENSORRT, "build_config": {}}, "llama-3.1-8b"),
    ],
)
def test_other_peoples_configs_are_the_same_model(name: str, data: Any, same: str, tmp_path: Path) -> None:
    put(tmp_path, name, data)
    found, known = kvplan.load(tmp_path), kvplan.load(same)
    assert found.layers == known.layers
    assert found.name == tmp_path.name
    assert find_weights(tmp_path, found).bytes == 2 * (known.parameters or 0)
    assert kvplan.load(data).layers == known.layers  # from Python, as a dict


def test_mistrals_windows_and_latents_are_read() -> None:
    turns = kvplan.load({**MISTRAL, "moe": None, "sliding_window": [None, 4096]})
    assert [str(layer.memories[0].reach)[:4] for layer in turns.layers[:2]] == ["Full", "Wind"]  # type: ignore[union-attr]
    latent = {"q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
    found = kvplan.load({**MISTRAL, **latent})
    assert kvplan.estimate(found, seq_len=1).total_bytes == 32 * (512 + 64) * 2


def test_tensorrts_cache_dtype_is_what_auto_means(tmp_path: Path) -> None:
    put(tmp_path, "config.json", {**TENSORRT, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}})
    assert kvplan.estimate(tmp_path).kv_dtype == "fp8_e4m3"


@pytest.mark.parametrize(
    "data",
    [
        {**META, "n_layers": 10**12},
        {**META, "dim": "x"},
        {**MISTRAL, "n_layers": 10**4, "sliding_window": [None] * 10**4},
        {**META, "ffn_dim_multiplier": float("inf")},
        {**META, "multiple_of": 0},
        {**MISTRAL, "moe": [1]},
        {**MISTRAL, "quantization": 5},
        {**TENSORRT, "architecture": "WhisperEncoder"},
        {**TENSORRT, "quantization": [1]},
        {"pretrained_config": {}},
        {"weight_map": {}},
        {"tokenizer_class": "X"},
    ],
)
def test_a_bad_config_of_others_is_one_sentence(data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    end = here(capsys, "estimate", str(put(tmp_path, "params.json", data)), most=2)
    if end.code:
        refused(end)


@each(
    ("text", "name"),
    [
        ("https://huggingface.co/Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("https://huggingface.co/Qwen/Qwen3-8B/tree/main?x=1#y", "Qwen/Qwen3-8B"),
        ("http://hf.co/Qwen/Qwen3-8B/", "Qwen/Qwen3-8B"),
        ("huggingface.co/Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("https://huggingface.co/a/b/blob/main/q4/c.gguf?download=true", "a/b/q4/c.gguf"),
        ("https://huggingface.co/a/b/blob/main/config.json", "a/b"),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("./huggingface.co/x", "./huggingface.co/x"),
    ],
)
def test_a_page_of_the_hub_is_the_name_that_it_is_of(text: str, name: str) -> None:
    assert hub_name(text) == name


@pytest.mark.parametrize(
    "text", ["https://example.com/a/b", "https://huggingface.co/datasets/a/b", "https://huggingface.co/Qwen"]
)
def test_a_page_of_something_else_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(here(capsys, "estimate", text), words="is not the page of a model on the hub")


def test_an_address_is_the_model_everywhere() -> None:
    address = "https://huggingface.co/hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4"
    assert find_weights(address, kvplan.load(address)).bytes < 45 * 10**9


# Encoders.

BERT = {"model_type": "bert", "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768, "vocab_size": 30522}


@each("engine", ["ideal", "transformers", "vllm"])
@each(
    "config",
    [
        {**BERT, "architectures": ["BertModel"]},
        {**BERT, "model_type": "xlm-roberta", "architectures": ["XLMRobertaForSequenceClassification"]},
        {"model_type": "modernbert", "architectures": ["ModernBertForMaskedLM"], "num_hidden_layers": 22},
        {"model_type": "nomic_bert", "n_layer": 12, "n_head": 12, "n_embd": 768},
        {"model_type": "distilbert", "n_layers": 6, "n_heads": 12, "dim": 768},
    ],
)
def test_an_encoder_keeps_no_cache_and_says_so(config: dict[str, Any], engine: str) -> None:
    answer = kvplan.estimate(config, seq_len=512, engine=engine)
    assert answer.total_bytes == 0
    assert any("encoder only: keeps no cache" in note for note in answer.notes)


@pytest.mark.parametrize("more", [{"is_decoder": True}, {"architectures": ["BertLMHeadModel"]}, {}])
def test_a_decoder_of_that_family_keeps_its_own(more: dict[str, Any]) -> None:
    assert kvplan.estimate({**BERT, **more}, seq_len=512).total_bytes == 12 * 2 * 768 * 512 * 2


def test_memory_sets_no_limit_to_an_encoders_requests(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = put(tmp_path, "config.json", {**BERT, "architectures": ["BertModel"]})
    end = here(capsys, "fit", str(path), "--gpu", "l4", "-s", "512", "--weights", "400MB")
    assert end.code == 0
    assert end.out.startswith("FITS on l4-24gb: the cache does not grow with the requests")
