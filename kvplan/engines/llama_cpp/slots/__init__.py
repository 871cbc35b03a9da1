"""llama-server's slots, step by step: which slot a request gets, what it finds there, and what a batch is made of.

Source: llama.cpp 0c1e57098, `tools/server/server-context.cpp`, `server-queue.cpp`, `server-task.cpp`.

* `prompts`: tokens of slots, and the prompt cache in host memory (`--cache-ram`). `server`: slots, the queue, a step.
* `serve`: requests with times; `settings`: what a server was told.
"""
