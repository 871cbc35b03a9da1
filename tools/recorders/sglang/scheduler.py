"""Drive SGLang's own scheduler and radix cache without a model and write down what happens in every step.

    python scheduler.py SOURCE GOLDEN.jsonl [--only WORD,WORD] [--first N] [--out NEW.jsonl]
    python scheduler.py SOURCE --random N [--seed S] [--edges] --out NEW.jsonl

SOURCE is the folder that holds the package `sglang` (a wheel unpacked, or site-packages); the first form records rows again and
says what changed, the second records scenarios of `scenarios.py`. `run(case)` returns `expected`.

Everything that decides is the engine's: `Scheduler.get_next_batch_to_run` (PrefillAdder, SchedulePolicy, ScheduleBatch, the
retraction, the ratio of new tokens), its radix cache, its allocators and the pool of request rows, `SchedulerBatchResultProcessor`,
`init_req_max_new_tokens`, `validate_input_length`, `is_fully_idle`. Ours are the loop (`event_loop_normal`, `event_loop_overlap` of
`managers/scheduler.py`, in their order of calls), a model that gives one token to each request of a batch (what `run_batch` leaves
on the batch is done by hand), and stubs for metrics, sockets and devices. Nothing is drawn by chance, nothing reads a clock.
"""
import argparse, hashlib, json, os, sys, tempfile, types
from array import array

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]
import scenarios

LIMIT = 20_000  # steps of a scenario
MOST = 10_000  # scenarios of a run
LONG, EVERY = 120, 10  # of what has more steps, every tenth
IDLE = 3  # steps in a row in which nothing happens and nothing will
OPTIONS = {
    "max_total_tokens": 1024, "page_size": 1, "max_running_requests": 8, "context_length": 512, "chunked_prefill_size": 128,
    "max_prefill_tokens": 16384, "disable_radix_cache": False, "disable_overlap_schedule": False,
    "schedule_conservativeness": 1.0,
}


class Nothing:
    """Stands for what only tells or measures: every attribute is itself, every call answers nothing."""

    scheduler_stage_metrics = None

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *a, **k):
        return None

    def __bool__(self):
        return False


def load(source):
    """The engine's modules, from `source` and nowhere else."""
    global torch, rc, S, SB, Req, Processor, GenerationBatchResult, SamplingParams
    sys.path.insert(0, os.path.abspath(source))
    os.environ.update(CUDA_VISIBLE_DEVICES="", SGLANG_LOG_LEVEL="error")
    import logging
    logging.disable(logging.CRITICAL)
    import fakecuda_sgl
    import torch
    import sglang
    if os.path.realpath(os.path.dirname(os.path.dirname(sglang.__file__))) != os.path.realpath(source):
        sys.exit(f"sglang was found in {os.path.dirname(sglang.__file__)}, not in {source}")
    import sglang.srt.runtime_context as rc
    import sglang.srt.managers.scheduler as S
    import sglang.srt.managers.schedule_batch as SB
    from sglang.srt.managers.schedule_batch import Req
    from sglang.srt.managers.scheduler_components.batch_result_processor import SchedulerBatchResultProcessor as Processor
    from sglang.srt.managers.utils import GenerationBatchResult
    from sglang.srt.sampling.sampling_params import SamplingParams
    # kernels that write rows and pages: the engine's own torch versions of them
    import sglang.srt.mem_cache.allocation as A
    A.support_triton = lambda backend: False
    A.get_last_loc = A.get_last_loc_torch
    S.get_resolved_model_impl = lambda model: None  # asked of multimodal models only
    # pinned memory belongs to a device
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("sglang") and hasattr(module, "is_pin_memory_available"):
            module.is_pin_memory_available = lambda *a, **k: False


def version():
    """What the wheel says of itself."""
    import glob, re
    import sglang
    folder = os.path.dirname(os.path.dirname(sglang.__file__))
    for name in glob.glob(os.path.join(folder, "sglang-*.dist-info")):
        return re.search(r"sglang-([^-]+)\.dist-info", name).group(1)
    try:
        from sglang._version import version as of
    except ImportError:
        from sglang.version import __version__ as of
    return of


CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 1 << 62, "max_position_embeddings": 1 << 20, "torch_dtype": "bfloat16",
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "eos_token_id": (1 << 62) - 1, "bos_token_id": 0,
}
_folder = None


def publish(o):
    """The server's arguments, resolved by the engine; a config of one layer stands for the model (nothing but lengths is read)."""
    global _folder
    if _folder is None:
        _folder = tempfile.mkdtemp()
        json.dump(CONFIG, open(_folder + "/config.json", "w"))
    from sglang.srt.server_args import ServerArgs
    args = ServerArgs(
        model_path=_folder, load_format="dummy", skip_tokenizer_init=True, mem_fraction_static=0.5, disable_cuda_graph=True,
        **{**o, "chunked_prefill_size": o["chunked_prefill_size"] or -1},
    )
    rc.publish(args, role="scheduler", ranks=rc.SpawnRanks(world_rank=0, gpu_id=0, dp_rank=None))
    return args


def build(o):
    """A scheduler of the engine with its pools, on a CPU; no worker, no socket."""
    from sglang.srt.mem_cache import registry
    from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator, TokenToKVPoolAllocator
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.mem_cache.memory_pool import ReqToTokenPool
    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm
    from sglang.srt.disaggregation.utils import DisaggregationMode

    args = publish(o)
    schedule, page = rc.get_schedule(), rc.get_schedule().page_size
    assert page == o["page_size"], page
    tokens = o["max_total_tokens"] // page * page
    rc.get_context().override("recorder", pp_max_micro_batch_size=o["max_running_requests"])
    pool = ReqToTokenPool(o["max_running_requests"], o["context_length"] + 4, "cpu", False)
    kv = types.SimpleNamespace(size=tokens, page_size=page, device="cpu")
    kind = (lambda: TokenToKVPoolAllocator(tokens, torch.bfloat16, "cpu", kv, False)) if page == 1 else (
        lambda: PagedTokenToKVPoolAllocator(tokens, page, torch.bfloat16, "cpu", kv, False))
    allocator = kind()
    allocator.use_triton_kernels = False
    params = CacheInitParams(
        disable=o["disable_radix_cache"], req_to_token_pool=pool, token_to_kv_pool_allocator=allocator, page_size=page,
        eviction_policy=rc.get_memory().radix_eviction_policy, chunked_prefill_size=schedule.chunked_prefill_size,
    )
    model = types.SimpleNamespace(
        is_encoder_decoder=False, vocab_size=CONFIG["vocab_size"], is_multimodal=False, context_len=o["context_length"],
        num_key_value_heads=4, self_opened_think_start_ids=None, think_end_ids=None, think_end_id=None, hf_config=types.SimpleNamespace(), hf_text_config=types.SimpleNamespace(),
    )
    s = S.Scheduler.__new__(S.Scheduler)
    s.tree_cache = registry.create_tree_cache(registry.TreeCacheBuildContext(
        server_args=args, params=params, is_hybrid_swa=False, is_hybrid_ssm=False, enable_hierarchical_cache=False,
        disable_radix_cache=o["disable_radix_cache"], tp_worker=Nothing(), model_config=model, tp_size=1, tp_rank=0, tp_group=None))
    s.server_args, s.device, s.model_config, s.page_size = args, "cpu", model, page
    s.req_to_token_pool, s.token_to_kv_pool_allocator = pool, allocator
    s.max_total_num_tokens, s.max_prefill_tokens, s.max_running_requests = tokens, schedule.max_prefill_tokens, o["max_running_requests"]
    s.max_req_len = min(o["context_length"] - 1, tokens - 1)  # tp_worker.py: get_worker_info
    s.max_req_input_len = s.max_req_len - 5
    s.enable_overlap, s.enable_overlap_mlx = not schedule.disable_overlap_schedule, False
    s.schedule_policy, s.spec_algorithm = schedule.schedule_policy, SpeculativeAlgorithm.from_string(None)
    s.disaggregation_mode, s.is_generation = DisaggregationMode.NULL, True
    for name in ("enable_hierarchical_cache", "enable_lmcache", "enable_hicache_storage", "enable_unified_cache_external_linker", "enable_hisparse",
                 "enable_lora", "enable_lora_overlap_loading", "enable_priority_scheduling", "schedule_low_priority_values_first", "enable_unified_memory",
                 "is_hybrid_swa", "is_hybrid_ssm", "require_mlp_sync", "enable_pdmux", "attn_dp_enabled", "abort_on_priority_when_disabled", "enable_fpm"):
        setattr(s, name, False)
    for name in ("dllm_config", "hisparse_coordinator", "decode_offload_manager", "truncation_align_size", "min_free_slots_delayer", "sliding_window_size",
                 "max_queued_requests", "max_new_tokens_limit", "draft_worker", "scheduler_stage_metrics", "lora_drainer", "metrics_collector",
                 "scripted_scheduler_hook", "dynamic_chunk_sizer", "pending_flush", "_pending_chunked_abort_req"):
        setattr(s, name, None)
    s.kv_shard_widening, s.priority_scheduling_preemption_threshold = 1, 0
    s.processed_tokens_counter, s.forward_ct, s.max_loras_per_batch = 0, 0, 8
    quiet = Nothing()
    for name in ("metrics_reporter", "grammar_manager", "load_inquirer", "load_publisher", "dllm_manager", "output_streamer", "kv_events_publisher",
                 "pool_stats_observer", "invariant_checker", "profiler_manager", "logprob_result_processor", "tp_worker"):
        setattr(s, name, quiet)
    s.grammar_manager = types.SimpleNamespace(has_waiting_grammars=lambda: False, grammar_queue=[])
    s.dllm_manager = types.SimpleNamespace(any_staging_reqs=lambda: False, is_empty=lambda: True)
    s.metrics_reporter = types.SimpleNamespace(enable_metrics=False, num_retracted_reqs=0, num_generated_tokens=0, forward_ct_decode=0,
        report_prefill_stats=lambda **k: None, report_decode_stats=lambda *a, **k: None, maybe_log_decode_stats=lambda *a, **k: None,
        log_decode_stats=lambda *a, **k: None, log_decode_stats_every_iteration=lambda *a, **k: None, record_scheduler_active=lambda *a: None, record_scheduler_idle=lambda: None)
    s.tp_worker = types.SimpleNamespace(model_runner=types.SimpleNamespace(attn_backend=object(), prefill_aware_swa=False))
    s.model_worker = s.tp_worker
    s.ngram_embedding_manager = types.SimpleNamespace(prepare_for_forward=lambda batch, chunked_req=None: batch)
    s.dp_attn_adapter = types.SimpleNamespace(maybe_prepare_mlp_sync_batch=lambda b, need_sync=None: b, maybe_convert_decode_to_extend=lambda b: b, drop_sync_wait_carry=lambda: None)
    s.beam_coordinator = types.SimpleNamespace(pending_member_rows=lambda b: 0, commit_decode=lambda b: set(), retire_group=lambda r: None)
    s.aborted = []
    s.send_abort_output = lambda message, req: s.aborted.append(req)
    s.session_controller = None
    import collections
    s.waiting_queue, s.running_batch, s.last_batch, s.cur_batch_for_debug = [], S.ScheduleBatch(reqs=[], batch_is_full=False), None, None
    s.result_queue = collections.deque()
    s.enable_skip_finishing_decode = False
    s.init_chunked_prefill()
    s.init_schedule_policy()
    s.batch_result_processor = Processor(
        is_generation=True, disaggregation_mode=s.disaggregation_mode, enable_overlap=s.enable_overlap, enable_overlap_mlx=False, model_config=model,
        token_to_kv_pool_allocator=allocator, tree_cache=s.tree_cache, hisparse_coordinator=None, req_to_token_pool=pool, decode_offload_manager=None,
        metrics_collector=None, metrics_reporter=s.metrics_reporter, draft_worker=None, model_worker=s.model_worker, logprob_result_processor=quiet,
        output_streamer=quiet, beam_coordinator=s.beam_coordinator, abort_request=None)
    return s


def out_token(r, k):
    return (1 << 50) + r * (1 << 20) + k


def tokens_of(prompt, index):
    """Token ids of a prompt: an int is a prompt shared with nobody; segments [id, length] repeat wherever the id does; "out:r" is what request r is given."""
    if isinstance(prompt, int):
        prompt = [[f"alone:{index}", prompt]]
    out = array("q")
    for name, n in prompt:
        if str(name).startswith("out:"):
            out.extend(out_token(int(name[4:]), k) for k in range(n))
        else:
            base = 1 + int(hashlib.sha256(str(name).encode()).hexdigest()[:8], 16) * 100003
            out.extend(range(base, base + n))
    return out


def forward(s, batch):
    """What `run_batch` leaves on the batch."""
    s.forward_ct += 1
    batch.forward_iter = s.forward_ct
    batch.input_ids = None
    return GenerationBatchResult(logits_output=None)


def run(case):
    """Replay the workload."""
    o = {**OPTIONS, **case["options"]}
    s = build(o)
    rows = case["workload"]["requests"]
    n = len(rows)
    todo = sorted(range(n), key=lambda i: (rows[i][0], i))
    reqs, admitted, first, finished = {}, [None] * n, [None] * n, [None] * n
    cached, chunks, refused, retracted_at = [[] for _ in range(n)], [[] for _ in range(n)], [], []
    used, kept, running, waiting, computed, ratios = [], [], [], [], [], []
    tokens = s.token_to_kv_pool_allocator.size
    step, idle, stuck = 0, 0, False
    error = None

    def arrive(i):
        """`TokenizerManager._validate_one_request` and `handle_generate_request`, what of them decides."""
        ids = tokens_of(rows[i][1], i)
        if len(ids) >= o["context_length"]:
            refused.append(i)
            return
        p = SamplingParams(max_new_tokens=rows[i][2], temperature=0.0)
        p.normalize(None)
        r = Req(str(i), "", ids, p, eos_token_ids=set(), vocab_size=CONFIG["vocab_size"])
        reqs[i] = r
        s.init_req_max_new_tokens(r)
        message = S.validate_input_length(r, s.max_req_input_len, False)
        if message:
            r.set_finish_with_abort(message)
            refused.append(i)
        s._add_request_to_queue(r)

    def process(batch, result):
        """`process_batch_result`, what of it decides."""
        mode = s.batch_result_processor
        result.next_token_ids = torch.tensor([out_token(int(r.rid), len(r.output_ids)) for r in batch.reqs], dtype=torch.int64)
        (mode.process_batch_result_decode if batch.forward_mode.is_decode() else mode.process_batch_result_prefill)(batch, result)
        s.tree_cache.flush_pending_backups()
        for r in batch.reqs:
            i = int(r.rid)
            if r.output_ids and first[i] is None:
                first[i] = step
            if r.finished() and finished[i] is None:
                finished[i] = step

    if s.enable_overlap:
        s.enable_skip_finishing_decode = True
    while step < LIMIT:
        while todo and rows[todo[0]][0] <= step:
            arrive(todo.pop(0))
        before = {i: r.retraction_count for i, r in reqs.items()}
        try:
            plan = s.get_next_batch_to_run(running_batch=s.running_batch, last_batch=s.last_batch)
        except RuntimeError as problem:
            error = str(problem).splitlines()[0]
            break
        s.running_batch, batch = plan.running_batch, plan.batch_to_run
        for i, r in reqs.items():
            retracted_at.extend([[step, i]] * (r.retraction_count - before[i]))
        tree = s.tree_cache
        used.append(tokens - s.token_to_kv_pool_allocator.available_size() - tree.evictable_size())
        kept.append(tree.evictable_size())
        running.append(len(s.running_batch.reqs))
        waiting.append(len(s.waiting_queue))
        ratios.append(s.new_token_ratio_tracker.current)
        computed.append((sum(batch.extend_lens) if batch.forward_mode.is_extend() else len(batch.reqs)) if batch else 0)
        if batch and batch.forward_mode.is_extend():
            for r, start, k in zip(batch.reqs, batch.prefix_lens, batch.extend_lens):
                i = int(r.rid)
                if admitted[i] is None:
                    admitted[i] = step
                if not chunks[i] or chunks[i][-1][3]:  # the first part since the admission
                    cached[i].append(start)
                chunks[i].append([step, start, k, r is not s.chunked_req])
        if s.enable_overlap:
            if batch:
                s.result_queue.append((batch.copy(), forward(s, batch)))
            if s.last_batch:
                process(*s.result_queue.popleft())
        elif batch:
            process(batch, forward(s, batch))
        if not batch and not (s.enable_overlap and s.last_batch):
            if is_idle(s):
                s.new_token_ratio_tracker.reset()  # on_idle
            idle += 1
        else:
            idle = 0
        s.last_batch = batch
        step += 1
        if not todo and is_idle(s) and not batch:
            break
        if idle > IDLE and not todo:
            stuck = True
            break
    for i, r in reqs.items():
        chunks[i] = [c[:3] for c in chunks[i]]
    x = {"steps": step, "retractions": len(retracted_at), "hit_tokens": sum(map(sum, cached)), "refused": sorted(refused)}
    aborted = sorted(int(r.rid) for r in s.aborted)
    x |= {"aborted": aborted, "stuck": stuck}
    if error:
        x["error"] = error
    x["requests"] = [[admitted[i], first[i], finished[i], reqs[i].retraction_count - (i in aborted) if i in reqs else 0, cached[i]] for i in range(n)]
    x |= {"used_tokens": used, "kept_tokens": kept, "running": running, "waiting": waiting, "computed_tokens": computed, "retracted_at": retracted_at, "prefill_chunks": chunks,
          "ratio": [round(r, 6) for r in ratios]}
    return x


def is_idle(s):
    """`is_fully_idle`, without the queues of other modes."""
    return s.running_batch.is_empty() and s.chunked_req is None and not s.result_queue and (s.last_batch is None or s.last_batch.is_empty()) and not s.waiting_queue


def row(case):
    """A row of the golden file: the options in full, long lists thinned."""
    x = json.loads(json.dumps(run(case)))
    for name in ("running", "waiting", "computed_tokens", "ratio", "prefill_chunks"):
        del x[name]  # for finding a wrong step; `run` has them
    if x["steps"] > LONG:
        x["every"] = EVERY
        for name in ("used_tokens", "kept_tokens"):
            x[name] = x[name][::EVERY]
    release = version()
    return {
        "id": f"sglang-{release}-scheduler/{case['id'].split('-scheduler/')[-1]}", "engine": "sglang", "engine_version": release, "model": None,
        "source": f"recorded with tools/recorders/sglang/scheduler.py, sglang {release}", "how": scenarios.HOW, "config": None,
        "options": {**OPTIONS, **case["options"]}, "workload": case["workload"], "expected": x,
    }


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("source", help="the folder that holds the package sglang")
    p.add_argument("golden", nargs="?", help="rows to record again")
    p.add_argument("--only", help="rows whose id holds one of these words")
    p.add_argument("--first", type=int)
    p.add_argument("--random", type=int, default=0, metavar="N", help="record N scenarios of a seed each")
    p.add_argument("--seed", type=int, default=0, help="the first of them")
    p.add_argument("--edges", action="store_true", help="record the scenarios by hand")
    p.add_argument("--out")
    a = p.parse_args()
    if bool(a.golden) == bool(a.random or a.edges) or not 0 <= a.random <= MOST or not os.path.isdir(os.path.join(a.source, "sglang")):
        p.error(f"SOURCE must hold the package sglang; then a golden file, or --edges and --random N with N at most {MOST:,}")
    load(a.source)
    if a.golden:
        import golden
        t = golden.Tally(a)
        for old in golden.rows(a):
            try:
                t.add(old, row(old)["expected"])
            except Exception as problem:
                t.add(old, None, repr(problem)[:400])
        t.end()
    with open(a.out, "w") if a.out else sys.stdout as out:
        for case in [*(scenarios.EDGES if a.edges else ()), *(scenarios.random_case(a.seed + i) for i in range(a.random))]:
            out.write(json.dumps(row(case), separators=(",", ":")) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
