"""vLLM's start-up memory, line by line: `ledger` of one rank, from parameters, options and a card.

The modules, in the order in which a server takes memory: `settings` (batch, runner, capture sizes), `loading` (weights, with
`rotary`, `quantised`, `lora`), `activation` (the profile run, with `families` and `vision`), `machine` (what is outside torch),
`graphs`; `build` puts the lines together, `releases` says what changed when.

Source: vLLM 0.26.0 read and measured; 0.11 to 0.33 read.
"""
