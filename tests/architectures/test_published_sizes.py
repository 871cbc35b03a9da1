"""Sizes worked out by hand from what is published of each model, at two bytes an element."""

import json

import golden
from each import each

from kvplan import estimate

CONFIGS = golden.CONFIGS / "hf"
KV = 2 * 2  # keys and values, two bytes each

#: Model, and bytes of each next token: layers x KV heads x head size.
EVERY_TOKEN = [
    ("meta-llama__Llama-2-7b-hf", 32 * 32 * 128 * KV),  # half a mebibyte, the figure everybody quotes
    ("meta-llama__Llama-2-70b-hf", 80 * 8 * 128 * KV),
    ("meta-llama__Meta-Llama-3.1-405B", 126 * 8 * 128 * KV),
    ("meta-llama__Llama-3.2-1B", 16 * 8 * 64 * KV),
    ("meta-llama__Llama-3.2-3B", 28 * 8 * 128 * KV),
    ("meta-llama__Llama-3.2-11B-Vision", 32 * 8 * 128 * KV),  # 40 layers, of which 8 look at the image
    ("CohereForAI__c4ai-command-r-v01", 40 * 64 * 128 * KV),
    ("tiiuae__falcon-7b", 32 * 1 * 64 * KV),
    ("tiiuae__falcon-180B", 80 * 8 * 64 * KV),
    ("bigcode__starcoder", 40 * 1 * 128 * KV),
    ("openai-community__gpt2", 12 * 12 * 64 * KV),
    ("EleutherAI__gpt-j-6b", 28 * 16 * 256 * KV),
    ("EleutherAI__gpt-neox-20b", 44 * 64 * 96 * KV),
    ("facebook__opt-13b", 40 * 40 * 128 * KV),
    ("mosaicml__mpt-7b", 32 * 32 * 128 * KV),
    ("Qwen__Qwen2-72B", 80 * 8 * 128 * KV),
    ("Qwen__Qwen2.5-0.5B", 24 * 2 * 64 * KV),
    ("Qwen__Qwen2.5-VL-7B-Instruct", 28 * 4 * 128 * KV),
    ("Qwen__Qwen3-32B", 64 * 8 * 128 * KV),
    ("Qwen__Qwen3-235B-A22B", 94 * 4 * 128 * KV),
    ("Qwen__Qwen3-VL-30B-A3B-Instruct", 48 * 4 * 128 * KV),
    ("Qwen__Qwen-1_8B-Chat", 24 * 16 * 128 * KV),
    ("mistralai__Mixtral-8x7B-v0.1", 32 * 8 * 128 * KV),
    ("mistralai__Mistral-Nemo-Instruct-2407", 40 * 8 * 128 * KV),  # 5,120 / 32 is 160, and the heads are 128
    ("THUDM__chatglm3-6b", 28 * 2 * 128 * KV),
    ("zai-org__GLM-4.5", 92 * 8 * 128 * KV),  # the MTP layer is not part of the model's own cache
    ("microsoft__phi-2", 32 * 32 * 80 * KV),
    ("databricks__dbrx-instruct", 40 * 8 * 128 * KV),
    ("xai-org__grok-1", 64 * 8 * 128 * KV),
    ("google__gemma-7b", 28 * 16 * 256 * KV),  # 16 x 256 is more than the hidden size, 3,072
    ("google__gemma-2b", 18 * 1 * 256 * KV),
    ("nvidia__Llama-3_3-Nemotron-Super-49B-v1", 49 * 8 * 128 * KV),  # 80 layers, 49 with attention
    ("tencent__Tencent-Hunyuan-Large", 131_072),  # 32 owners of 64 layers, arXiv 2411.02265
    ("tencent__Hunyuan-A13B-Instruct", 32 * 8 * 128 * KV),
    ("adept__fuyu-8b", 36 * 64 * 64 * KV),
    ("llava-hf__llava-1.5-7b-hf", 32 * 32 * 128 * KV),
    ("baichuan-inc__Baichuan2-7B-Chat", 32 * 32 * 128 * KV),
    ("deepseek-ai__deepseek-moe-16b-chat", 28 * 16 * 128 * KV),
]


def config(name: str) -> dict[str, object]:
    return json.loads((CONFIGS / f"{name}.json").read_text())


@each(("name", "expected"), EVERY_TOKEN)
def test_a_token_costs_what_is_published(name: str, expected: int) -> None:
    one = estimate(config(name), seq_len=1000, kv_dtype="bf16")
    assert one.bytes_per_token == expected
    assert one.total_bytes == 1000 * expected


#: Model, tokens, bytes: layers that keep everything and layers that keep a window.
AT_A_LENGTH = [
    ("mistralai__Mistral-7B-v0.1", 32_768, 32 * 4096 * 8 * 128 * KV),
    ("google__gemma-2-9b", 8_192, (21 * 8_192 + 21 * 4_096) * 8 * 256 * KV),
    ("google__gemma-3-27b-it", 131_072, (10 * 131_072 + 52 * 1_024) * 16 * 128 * KV),
    ("google__gemma-3-4b-it", 131_072, (5 * 131_072 + 29 * 1_024) * 4 * 256 * KV),
    ("google__gemma-3n-E2B-it", 32_768, (4 * 32_768 + 16 * 512) * 2 * 256 * KV),
    ("google__gemma-4-26B-A4B", 65_536, (5 * 65_536 * 2 * 512 + 25 * 1_024 * 8 * 256) * KV),
    ("openai__gpt-oss-120b", 131_072, (18 * 131_072 + 18 * 128) * 8 * 64 * KV),
    ("openai__gpt-oss-20b", 131_072, (12 * 131_072 + 12 * 128) * 8 * 64 * KV),
    ("meta-llama__Llama-4-Scout-17B-16E-Instruct", 32_768, (12 * 32_768 + 36 * 8_192) * 8 * 128 * KV),
    ("LGAI-EXAONE__EXAONE-4.0-32B", 131_072, (16 * 131_072 + 48 * 4_096) * 8 * 128 * KV),
    ("allenai__Olmo-3-1025-7B", 65_536, (8 * 65_536 + 24 * 4_096) * 32 * 128 * KV),
    ("XiaomiMiMo__MiMo-V2-Flash", 32_768, (9 * 32_768 * 4 + 39 * 128 * 8) * (192 + 128) * 2),
    ("microsoft__Phi-3-mini-4k-instruct", 4_096, 32 * 2_048 * 32 * 96 * KV),  # 2,047 on the hub; this copy says 2,048
]


@each(("name", "tokens", "expected"), AT_A_LENGTH)
def test_windows_cap_what_a_long_sequence_costs(name: str, tokens: int, expected: int) -> None:
    assert estimate(config(name), seq_len=tokens, kv_dtype="bf16").total_bytes == expected


#: Encoder–decoders: model, decoder tokens, encoder tokens, bytes.
WITH_AN_ENCODER = [
    ("google__t5-v1_1-xxl", 100, 512, 24 * 64 * 64 * KV * (100 + 512)),
    ("google-t5__t5-small", 100, 512, 6 * 8 * 64 * KV * (100 + 512)),
    ("facebook__bart-large", 100, 512, 12 * 16 * 64 * KV * (100 + 512)),
    ("openai__whisper-tiny", 100, 0, 4 * 6 * 64 * KV * (100 + 1_500)),
    ("meta-llama__Llama-3.2-11B-Vision", 100, 6_404, 8 * 128 * KV * (32 * 100 + 8 * 6_404)),
]


@each(("name", "tokens", "encoder", "expected"), WITH_AN_ENCODER)
def test_cross_attention_costs_the_encoders_length(name: str, tokens: int, encoder: int, expected: int) -> None:
    found = estimate(config(name), seq_len=tokens, encoder_len=encoder, kv_dtype="bf16")
    assert found.total_bytes == expected
