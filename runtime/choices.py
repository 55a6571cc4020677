"""What a caller may choose, by name; apart from what does it, so that commands need not load that to list it."""

BACKENDS = ("auto", "onnxruntime", "openvino", "cuda", "tensorrt")
QUALITIES = ("low", "medium", "high")  # of the models that ship, by rising rate
DEFAULT_QUALITY = "medium"
INTEGER = "integer"  # names the integer bundle that ships, in the place of a folder
MAX_PIXELS = 1 << 28  # 268 megapixels; 0.8 GB of pixels
