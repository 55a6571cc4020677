"""From a checkpoint to a bundle: models, splits, ONNX graphs, tables. Needs PyTorch; the runtime never does."""
