"""The tensors of one prompt batch in the order in which they are computed, and the heaps that ggml's allocator makes of them.

Where weights on the host are copied to a device the largest moment is decided by which freed block each tensor finds: no closed
form says that, so that the allocator is run on the graph itself.
"""
