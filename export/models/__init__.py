"""PyTorch definitions of the supported architectures, with the keys of their official checkpoints."""
