"""What each form does with what only it has; the recorded inputs are in test_recorded.py."""
# ruff: noqa: E501  inputs stand as they are pasted

import json
from typing import Any

import pytest
from each import each

from kvplan.errors import InputError
from kvplan.loading.servers.read import servers_of


def read(text: str, name: str = "start.sh", **variables: str) -> list[dict[str, Any]]:
    return [server.to_dict() for server in servers_of(text, name, variables).servers]


def one(text: str, name: str = "start.sh", **variables: str) -> dict[str, Any]:
    (found,) = read(text, name, **variables)
    return found


@each(
    ("text", "options"),
    [
        ("vllm serve a/b --max_model_len=8k --max-model-len 4096", {"max_model_len": 4096}),  # the last wins
        ("vllm serve a/b --max-model-len auto", {"max_model_len": -1}),
        ("vllm serve a/b --tensor-parallel 2 -O3", {"tensor_parallel_size": 2, "optimization_level": "3"}),
        ("vllm serve a/b --disable-prefix-caching", {"enable_prefix_caching": False}),
        ("vllm serve a/b -q None --max-num-seqs 8", {"max_num_seqs": 8}),
        ("vllm serve a/b --cudagraph-capture-sizes 1 2 4", {"cudagraph_capture_sizes": [1, 2, 4]}),
        ("vllm serve a/b --hf-overrides '{\"x\": 32k}'", {"hf_overrides": {"x": 32000}}),
        ("ARGS=(--tensor-parallel-size 2)\nARGS+=(--max-num-seqs 4)\nvllm serve a/b \"${ARGS[@]}\"", {"tensor_parallel_size": 2, "max_num_seqs": 4}),
        ("LEN=$(wc -c < x)\nvllm serve a/b --max-model-len=$LEN --max-num-seqs `nproc`", {"max_model_len": "unresolved", "max_num_seqs": "unresolved"}),
        ("for n in 1 2; do\n  vllm serve a/b -tp $n\ndone", {"tensor_parallel_size": "unresolved"}),
        ("if true; then exec vllm serve a/b --max-num-seqs ${N:-${M:-3}}; fi", {"max_num_seqs": 3}),
        ("cat > c.yaml <<'EOF'\nmodel: a/b\nmax-model-len: 8k\nenforce-eager: false\nEOF\nvllm serve --config c.yaml --max-num-seqs 2", {"max_model_len": 8000, "max_num_seqs": 2}),
        ("$ vllm serve a/b \\\n    --max-num-seqs 2 # of the page", {"max_num_seqs": 2}),
        ("tmux new-session -d -s x 'timeout 9h vllm serve a/b --max-num-seqs 2'", {"max_num_seqs": 2}),
        ("echo it's fine\nvllm serve a/b --max-num-seqs 2", {"max_num_seqs": 2}),  # an apostrophe is no quote
    ],
)  # fmt: skip
def test_vllm_lines(text: str, options: dict[str, Any]) -> None:
    found = one(text)
    assert found["model"] == "a/b"
    assert found["options"] == options


def test_a_release_decides_what_a_word_is() -> None:
    line = "vllm serve a/b --enable-chunked-prefill=false --swap-space 8"
    assert one(f"pip install vllm==0.8.5\n{line}")["options"] == {"enable_chunked_prefill": False, "swap_space": 8.0}
    refused = servers_of(f"pip install vllm==0.29.0\n{line}", "a.sh").servers[0]
    assert refused.unknown == ("--swap-space",)
    assert refused.refused == ("`--enable-chunked-prefill` is a switch and takes no value",)
    assert servers_of(line, "a.sh").servers[0].gone == ("--swap-space",)


@each(
    "line",
    [
        "--max-num-seqs 1k", "--max-model-len 1.5K", "--kv-cache-memory-bytes 8GB", "--speculative-config '{a'", "--gpu-memory-utilization x",
        "--max-model-len", "c/d",
    ],
)  # fmt: skip
def test_what_the_parser_refuses_is_said(line: str) -> None:
    (server,) = servers_of(f"vllm serve a/b {line}\n", "a.sh").servers
    assert len(server.refused) == 1
    assert server.options == {}


def test_llama_cpp_reads_as_cpp_does() -> None:
    text = "LLAMA_ARG_CTX_SIZE=8192 llama-server -hf a/b:Q8_0 -m c.gguf -fa -c 32k --lora x --lora y -ot 'a=CPU' -ot b=CUDA0 -ngl auto"
    assert one(text) == {
        "engine": "llama.cpp",
        "model": "a/b:Q8_0",
        "options": {
            "ctx_size": 32, "flash_attn": "on", "lora": "x,y", "override_tensor": "a=CPU,b=CUDA0", "n_gpu_layers": "auto",
        },
    }  # fmt: skip
    assert servers_of("llama-server -m x -c=32", "a.sh").servers[0].unknown == ("-c=32",)


def test_containers_put_their_program_before_words() -> None:
    assert one("docker run --gpus 2 ghcr.io/ggml-org/llama.cpp:full-cuda --server -m x.gguf")["gpus"] == 2
    assert read("docker run ghcr.io/ggml-org/llama.cpp:light-cuda -m x.gguf -p hi") == []
    assert one("docker run --device nvidia.com/gpu=1 vllm/vllm-openai:v0.10.1.1 --model a/b") == {
        "engine": "vllm", "version": "0.10.1.1", "model": "a/b", "options": {}, "gpus": [1],
    }  # fmt: skip
    assert "version" not in one("docker run nvcr.io/nvidia/vllm:25.09-py3 vllm serve a/b")
    assert read("docker run -it vllm/vllm-openai:v0.11.0 bash") == []


def test_manifests_of_operators() -> None:
    inference = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: x}
spec:
  predictor:
    model:
      modelFormat: {name: huggingface}
      args: [--model_name=x, --model_id=a/b, --max-model-len=8192]
      resources: {limits: {nvidia.com/gpu: "1"}}
"""
    assert one(inference, "i.yaml") == {"engine": "vllm", "model": "a/b", "options": {"max_model_len": 8192}, "gpus": 1}
    llm = """
apiVersion: serving.kserve.io/v1alpha1
kind: LLMInferenceService
metadata: {name: x}
spec:
  model: {uri: hf://a/b}
  parallelism: {tensor: 2}
  template: {containers: [{name: main, env: [{name: VLLM_ADDITIONAL_ARGS, value: --max-num-seqs=4}]}]}
"""
    assert one(llm, "l.yaml")["options"] == {"tensor_parallel_size": 2, "max_num_seqs": 4}
    llm_d = """
modelArtifacts: {uri: "hf://a/b"}
decode:
  parallelism: {tensor: 2}
  containers: [{modelCommand: vllmServe, args: [--block-size=64], resources: {limits: {nvidia.com/gpu: 2}}}]
"""
    assert one(llm_d, "values.yaml") == {
        "engine": "vllm", "model": "a/b", "options": {"tensor_parallel_size": 2, "block_size": 64}, "gpus": 2,
    }  # fmt: skip


def test_a_pod_takes_its_variables_from_config_maps_of_the_same_file() -> None:
    text = """
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {MODEL: a/b, EXTRA: "--max-model-len 8192"}
---
apiVersion: apps/v1
kind: StatefulSet
spec:
  template:
    spec:
      containers:
      - name: v
        image: vllm/vllm-openai:v0.10.2
        envFrom: [{configMapRef: {name: c}}]
        command: [sh, -c]
        args: ["exec vllm serve $MODEL $EXTRA --max-num-seqs $(SECRET)"]
"""
    assert one(text, "d.yaml")["options"] == {"max_model_len": 8192, "max_num_seqs": "unresolved"}


def test_lines_of_a_folded_command_are_found() -> None:
    text = "services:\n  v:\n    image: vllm/vllm-openai:v0.33.0\n    command: >\n      a/b\n      --max-num-seqs 4\n      --max-model-len 8k\n"
    (server,) = servers_of(text, "docker-compose.yml").servers
    assert server.line == 3
    assert server.lines == {"model": 5, "max_num_seqs": 6, "max_model_len": 7}


def test_fences_of_a_page_are_read_and_prose_is_not() -> None:
    page = "Run `vllm serve x`:\n\n```bash\nvllm serve a/b\n```\n\n```yaml\nservices: {o: {image: 'ollama/ollama:0.9.0'}}\n```\n\n```python\nvllm serve c/d\n```\n"
    found = servers_of(page, "README.md").servers
    assert [(s.engine, s.model, s.line) for s in found] == [("vllm", "a/b", 4), ("ollama", None, 8)]


def test_variables_come_from_the_caller_and_never_from_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", "from/here")
    assert one("vllm serve $MODEL")["model"] == "unresolved"
    assert one("vllm serve $MODEL", MODEL="a/b")["model"] == "a/b"


def test_a_command_behind_a_variable_is_no_file_of_pairs() -> None:
    lines = "CUDA_VISIBLE_DEVICES=0 vllm serve a/b\nCUDA_VISIBLE_DEVICES=1 vllm serve a/c\n"
    assert [server["model"] for server in read(lines, "")] == ["a/b", "a/c"]
    assert one("OLLAMA_NUM_PARALLEL=2\nexport OLLAMA_KV_CACHE_TYPE='q8_0' # half\n", "")["options"] == {
        "OLLAMA_NUM_PARALLEL": 2,
        "OLLAMA_KV_CACHE_TYPE": "q8_0",
    }


def test_two_hundred_servers_take_no_more_than_their_number() -> None:
    line = "docker run --gpus all vllm/vllm-openai:v0.11.0 --model a/b --max-model-len 8192 --max-num-seqs 4\n"
    assert len(read(line * 200)) == 200
    service = "  s%d:\n    image: vllm/vllm-openai:v0.11.0\n    command: [--model, a/b]\n"
    assert len(read("services:\n" + "".join(service % n for n in range(200)), "compose.yml")) == 200


def test_the_json_form_has_plain_values_alone() -> None:
    json.dumps(read("vllm serve a/b --max-num-seqs 4"), allow_nan=False)


def test_a_template_is_told_from_a_manifest() -> None:
    with pytest.raises(InputError, match="template of a Helm chart") as caught:
        servers_of("{{- range .Values.models }}\nkind: Deployment\n{{- end }}\n", "deployment.yaml")
    assert "helm template" in caught.value.hint


@each(
    ("name", "text", "says"),
    [
        ("cut.json", '{"model": "a/b", "max_model_len": 81', "line 1: not valid JSON"),
        ("cut.json", "[1, 2", "line 1: not valid JSON"),
        ("", '{\n  "model": "a/b",\n  "max_model_len": ', "line 3: not valid JSON"),
        ("notes.txt", '{"model": "a/b", "max_mo', "line 1: not valid JSON"),
        ("", 'services:\n  v:\n    image: vllm/vllm-openai:v0.11.0\n    command: ["--model', "line 4: not valid YAML"),
        ("", "apiVersion: apps/v1\nkind: Deployment\nspec: {template", "line 3: not valid YAML"),
        ("config.yaml", "model: a/b\nmax-model-len: [8192", "line 2: not valid YAML"),
        ("c.yml", "services:\n  v:\n    image: vllm/vllm-openai:v0.11.0\n    command: --model 'a/b\n", "line 4: a quote that nothing closes"),
        ("swap.yaml", "models:\n  a:\n    cmd: |\n      llama-server -m \"x.gguf\n", "line 4: a quote that nothing closes"),
        ("a.service", "[Service]\nExecStart=/usr/bin/vllm serve 'a/b --max-num-seqs 4", "line 2: a quote that nothing closes"),
        ("a.service", "[Unit]\nDescription=x\n[Serv", "line 3: a section that nothing closes"),
        ("a.sh", 'true\nvllm serve "a/b --max-num-seqs 4', "line 2: a quote that nothing closes"),
        ("Modelfile", 'FROM qwen3:8b\nSYSTEM """You', "line 2: a quote that nothing closes"),
        ("Modelfile", "PARAMETER num_ctx 8192\nFROM", "no FROM line"),
    ],
)  # fmt: skip
def test_what_is_cut_off_is_unreadable_and_no_input_without_servers(name: str, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        servers_of(text, name)


def test_braces_of_a_shell_are_no_json() -> None:
    assert one("{ vllm serve a/b; } 2>&1\n", "")["model"] == "a/b"


def test_dynamos_tensorrt_llm_worker_has_names_of_its_own() -> None:
    line = "python3 -m dynamo.trtllm --model-path a/b --served-model-name x --max-batch-size=64 --free-gpu-memory-fraction 0.8 "
    assert one(f"{line} --tensor-parallel-size 2 --expert-parallel-size 2 --disaggregation-mode decode") == {
        "engine": "tensorrt-llm", "model": "a/b", "options": {
            "max_batch_size": 64, "free_gpu_memory_fraction": 0.8, "tensor_parallel_size": 2, "moe_expert_parallel_size": 2,
        },
    }  # fmt: skip
    written = "cat > e.yaml <<'EOF'\ntensor_parallel_size: 2\nmax_seq_len: 8192\nEOF\n"
    found = one(f"{written}{line} --extra-engine-args e.yaml --override-engine-args '{{\"tensor_parallel_size\": 4}}'")
    assert found["options"]["tensor_parallel_size"] == 4
    assert found["options"]["max_seq_len"] == 8192
    assert one(f"{line} --override-engine-args $X")["options"]["override_engine_args"] == "unresolved"


def test_numbers_of_others_images_name_no_release() -> None:
    assert "version" not in one("docker run opea/vllm-gaudi:1.22.0 --model a/b")
    assert "version" not in one("docker run rocm/vllm:rocm6.4.1_vllm_0.9.1 vllm serve a/b")
    assert one("docker run audar-vllm:0.24.0 --model /model")["version"] == "0.24.0"


#: Manifests of public repositories that are in no record, shortened -> what is read out of them.
PUBLIC: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "kserve docs/samples/llm-sglang-example.yaml": (
        'apiVersion: serving.kserve.io/v1alpha2\nkind: LLMInferenceService\nspec:\n  runtime: sglang\n  model:\n    uri: "hf://meta-llama/Llama-2-7b-hf"\n    name: llama2\n',
        [{"engine": "sglang", "model": "meta-llama/Llama-2-7b-hf", "options": {}}],
    ),
    "kserve docs/samples/llmisvc/e2e-gpt-oss/inference_default.yaml": (
        'apiVersion: serving.kserve.io/v1alpha2\nkind: LLMInferenceService\nspec:\n  model:\n    uri: "pvc://gpt-oss-20b-pvc"\n    name: RedHatAI/gpt-oss-20b\n  template:\n    containers:\n      - name: main\n        resources:\n          limits:\n            nvidia.com/gpu: 1\n',
        [{"engine": "vllm", "model": "RedHatAI/gpt-oss-20b", "options": {}, "gpus": 1}],
    ),
    "kserve docs/samples/llmisvc/dp-ep/qwen3-nvidia": (
        "apiVersion: serving.kserve.io/v1alpha1\nkind: LLMInferenceService\nspec:\n  model:\n    uri: hf://Qwen/Qwen3-Coder-30B-A3B-Instruct\n  parallelism:\n    data: 8\n    dataLocal: 8\n    expert: true\n    tensor: 1\n",
        [
            {
                "engine": "vllm",
                "model": "Qwen/Qwen3-Coder-30B-A3B-Instruct",
                "options": {"tensor_parallel_size": 1, "data_parallel_size": 8, "enable_expert_parallel": True},
            }
        ],
    ),
    "dynamo examples/backends/sglang/deploy/agg.yaml": (
        "apiVersion: nvidia.com/v1alpha1\nkind: DynamoGraphDeployment\nspec:\n  services:\n    Frontend:\n      extraPodSpec:\n        mainContainer:\n          image: nvcr.io/nvidia/ai-dynamo/sglang-runtime:0.8.0\n"
        '    decode:\n      resources:\n        limits:\n          gpu: "1"\n      extraPodSpec:\n        mainContainer:\n          image: nvcr.io/nvidia/ai-dynamo/sglang-runtime:0.8.0\n          command: [python3, -m, dynamo.sglang]\n'
        '          args: [--model-path, Qwen/Qwen3-0.6B, --page-size, "16", --tp, "1", --disaggregation-bootstrap, x]\n',
        [{"engine": "sglang", "model": "Qwen/Qwen3-0.6B", "options": {"page_size": 16, "tp_size": 1}, "gpus": 1}],
    ),
    "skypilot llm/gpt-oss/gpt-oss-vllm.sky.yaml": (
        "resources:\n  accelerators: {H100:2, H200:1}\nenvs:\n  MODEL_NAME: openai/gpt-oss-120b\nsetup: |\n  uv pip install --pre vllm==0.10.1+gptoss \\\n    --index-strategy unsafe-best-match\nrun: |\n  source .venv/bin/activate\n  vllm serve $MODEL_NAME \\\n    --tensor-parallel-size $SKYPILOT_NUM_GPUS_PER_NODE\n",
        [
            {
                "engine": "vllm",
                "version": "0.10.1",
                "model": "openai/gpt-oss-120b",
                "options": {"tensor_parallel_size": 2},
                "gpus": 2,
            }
        ],
    ),
    "production-stack operator/config/samples/production-stack_v1alpha1_vllmruntime.yaml": (
        'apiVersion: production-stack.vllm.ai/v1alpha1\nkind: VLLMRuntime\nmetadata:\n  name: sample\nspec:\n  model:\n    modelURL: "meta-llama/Llama-3.1-8B-Instruct"\n    maxModelLen: 4096\n    maxNumSeqs: 32\n'
        '  vllmConfig:\n    enablePrefixCaching: false\n    gpuMemoryUtilization: "0.8"\n    maxLoras: 4\n  deploymentConfig:\n    resources:\n      gpu: "1"\n    image:\n      registry: docker.io\n      name: "vllm/vllm-openai:v0.20.0"\n',
        [
            {
                "engine": "vllm",
                "version": "0.20.0",
                "model": "meta-llama/Llama-3.1-8B-Instruct",
                "options": {
                    "enable_prefix_caching": False,
                    "gpu_memory_utilization": 0.8,
                    "max_model_len": 4096,
                    "max_num_seqs": 32,
                },
                "gpus": 1,
            }
        ],
    ),
    "llm-d-modelservice examples/values-pd.yaml": (
        'modelArtifacts:\n  name: facebook/opt-125m\n  uri: hf://"{{ .Values.modelArtifacts.name }}"\n'
        + "".join(
            f'{role}:\n  create: true\n  containers:\n  - name: "vllm"\n    modelCommand: vllmServe\n    args: ["--enforce-eager"]\n    env:\n      - name: CUDA_VISIBLE_DEVICES\n        value: "0"\n'
            for role in ("decode", "prefill")
        ),
        [{"engine": "vllm", "model": "facebook/opt-125m", "options": {"enforce_eager": True}, "gpus": [0]}] * 2,
    ),
}


@each("where", PUBLIC)
def test_public_manifests(where: str) -> None:
    text, expected = PUBLIC[where]
    found = servers_of(text, "manifest.yaml").servers
    assert [server.to_dict() for server in found] == expected
    lines = text.splitlines()
    assert all(server.model is None or server.model.rpartition("/")[2] in text for server in found)
    assert all(1 <= server.line <= len(lines) for server in found)
    assert all(server.pod for server in found if "sky" not in where)  # a pod's first card is no other pod's
