"""Calibration of int8 transforms: images to ranges to Q/DQ nodes; nothing here yet."""
