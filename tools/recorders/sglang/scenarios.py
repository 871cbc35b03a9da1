"""Scenarios for `scheduler.py`: small ones by hand, each about a rule, and random ones that a seed makes. Nothing here knows what comes out."""
import random

HOW = (
    "SGLang's own Scheduler.get_next_batch_to_run, radix cache, allocators and result processor on a CPU, no model: each step queues the requests "
    "that have arrived, asks for the next batch and gives each of its requests one token; with overlap the result of a step is processed after the "
    "next batch is made, in the order of calls of event_loop_overlap"
)


def random_case(seed):
    """A small server that is short of room, and requests for it."""
    r = random.Random(seed)
    page, context = r.choice((1, 1, 16, 64)), r.choice((128, 320, 700))
    tokens = (r.choice((context // 2, context, 2 * context)) + r.randint(2 * page, 400 + page)) // page * page
    options = {
        "max_total_tokens": tokens, "page_size": page, "max_running_requests": r.choice((2, 4, 8, 16)), "context_length": context,
        "chunked_prefill_size": r.choice((None, page * max(1, 64 // page), 128, 512)), "max_prefill_tokens": r.choice((128, 16384, 16384)),
        "disable_radix_cache": r.random() < 0.2, "disable_overlap_schedule": r.random() < 0.4,
        "schedule_conservativeness": r.choice((1.0, 1.0, 0.3, 0.05)),
    }
    rows, at, shared = [], 0, r.random() < 0.7
    long_prompts, outputs, gap = r.random() < 0.4, r.choice((4, 40, 40, 150)), r.choice((0, 2, 20))
    for i in range(r.randint(2, 24)):
        at += r.randint(0, gap) if r.random() < 0.95 else r.randint(0, 400)
        most = context + 4 if long_prompts and r.random() < 0.3 else max(2, context // 3)
        prompt = r.randint(1, most)
        if shared and r.random() < 0.7 and prompt > 1:
            first = r.randint(1, prompt)
            kind = r.random()
            if kind < 0.25 and rows and isinstance(rows[-1][1], list):  # goes on from what another was given
                j = r.randrange(len(rows))
                before = rows[j][1] if isinstance(rows[j][1], list) else [[f"alone:{j}", rows[j][1]]]
                prompt = [*before, [f"out:{j}", r.randint(1, rows[j][2])], [f"turn{i}", r.randint(1, 30)]]
            elif kind < 0.45:
                prompt = [[r.choice("ab"), prompt]]
            else:
                prompt = [[r.choice("ab"), first], *([[f"own{i}", prompt - first]] if prompt > first else [])]
        rows.append([at, prompt, r.randint(1, outputs)])
    return {"id": f"random/{seed}", "options": options, "workload": {"requests": rows}}


def case(name, requests, **options):
    return {"id": f"edge/{name}", "options": options, "workload": {"requests": requests}}


#: Each about one rule.
EDGES = [
    case("output-kept-free", [[0, 100, 400], [0, 100, 400]], max_total_tokens=1000),
    case("output-kept-free-later", [[0, 100, 400], [2, 100, 400]], max_total_tokens=1000),
    case("alone-and-large", [[0, 100, 420]], max_total_tokens=300, context_length=512),
    case("chunks", [[0, 20, 50], [1, 300, 10], [2, 90, 10]]),
    case("chunks-pages", [[0, 20, 50], [1, 300, 10], [2, 90, 10]], page_size=16),
    case("chunk-shared-by-two", [[0, 100, 5], [0, 100, 5], [0, 100, 5]]),
    case("no-chunks-first-over-budget", [[0, 300, 5], [0, 300, 5]], chunked_prefill_size=None, max_prefill_tokens=128),
    case("no-chunks-budget", [[0, 60, 5], [0, 60, 5], [0, 60, 5], [0, 60, 5]], chunked_prefill_size=None, max_prefill_tokens=128),
    case("same-prompt", [[0, [["a", 100]], 5], [0, [["a", 100]], 5], [9, [["a", 100]], 5]]),
    case("same-prompt-pages", [[0, [["a", 100]], 5], [0, [["a", 100]], 5], [9, [["a", 100]], 5]], page_size=16),
    case("same-prompt-no-overlap", [[0, [["a", 100]], 5], [1, [["a", 100]], 5]], disable_overlap_schedule=True),
    case("next-turn", [[0, [["a", 50]], 30], [50, [["a", 50], ["out:0", 30], ["b", 9]], 5]]),
    case("next-turn-pages", [[0, [["a", 50]], 30], [50, [["a", 50], ["out:0", 30], ["b", 9]], 5]], page_size=16),
    case("places", [[0, 10, 20]] * 4, max_running_requests=2),
    case("places-no-overlap", [[0, 10, 20]] * 4, max_running_requests=2, disable_overlap_schedule=True),
    case("one-token", [[0, 10, 1], [0, 10, 1], [3, 10, 1]]),
    case("too-long", [[0, 510, 5], [0, 300, 5], [9, 600, 5]]),
    case("evicted-oldest", [[0, [["a", 100]], 2], [9, [["b", 100]], 2], [18, [["a", 100]], 2], [27, [["c", 120]], 2], [36, [["a", 100]], 2], [45, [["b", 100]], 2]], max_total_tokens=260),
    case("evicted-output-first", [[0, [["a", 64]], 60], [80, [["b", 80]], 2], [90, [["a", 64], ["out:0", 60], ["c", 3]], 2]], max_total_tokens=220),
    case("retracted", [[i, 20 + i, 90] for i in range(6)], max_total_tokens=400, disable_radix_cache=True, schedule_conservativeness=0.05),
    case("retracted-radix", [[i, [["a", 20 + i]], 90] for i in range(6)], max_total_tokens=400, schedule_conservativeness=0.05),
    case("retracted-no-overlap", [[i, 20 + i, 90] for i in range(6)], max_total_tokens=400, schedule_conservativeness=0.05, disable_overlap_schedule=True),
    case("retracted-pages", [[i, 40 + i, 90] for i in range(6)], max_total_tokens=640, page_size=64, schedule_conservativeness=0.05),
    case("retracted-chunks", [[i, 60 + i, 60] for i in range(6)], max_total_tokens=448, page_size=16, chunked_prefill_size=48, schedule_conservativeness=0.05),
    case("waits-for-who-leaves", [[0, 60, 30], [1, 60, 34], [2, 60, 40]], max_total_tokens=272, schedule_conservativeness=0.05),
    case("fallen-ratio", [[0, 10, 400], [200, 100, 300], [300, 100, 300]], max_total_tokens=700),
    case("waiting-prefix-used", [[0, [["a", 60]], 2], [8, [["b", 60]], 2], [16, 30, 80], [17, [["a", 60], ["x", 150]], 40], [18, [["c", 90]], 4], [60, [["b", 60]], 2]], max_total_tokens=400, max_running_requests=4),
]
