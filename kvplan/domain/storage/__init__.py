"""How checkpoints store the matrices of linear layers: formats, and which tensors a `quantization_config` converts to them."""
