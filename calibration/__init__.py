"""Calibration of int8 transforms: photos to ranges to Q/DQ nodes. Needs ONNX and ONNX Runtime, not PyTorch."""
