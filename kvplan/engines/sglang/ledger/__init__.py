"""Where the memory of one rank of an SGLang server goes before its pools, and what it prints while it starts.

SGLang measures what is free before and after it loads: `free after - free before * (1 - mem_fraction_static)` is for its pools.
So whatever is gone before it measures counts with the fraction, and what the fraction leaves is for activations and graphs.
"""
