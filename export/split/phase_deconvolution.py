"""A transposed convolution as one ordinary convolution for each phase of its output, interleaved by a pixel shuffle.

Every output position of stride s sees only the taps of its own phase, so the s * s small kernels hold all taps once and
the number of multiplications stays. Engines run ordinary convolutions near the processor's peak and transposed ones
not: 192 to 192 channels, 5x5, stride 2, 128 x 192 on two cores take 361 ms transposed and 274 ms in phases with ONNX
Runtime, 256 and 174 ms with OpenVINO in bfloat16, 263 and 274 ms with OpenVINO in float32.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

MIN_CHANNELS = 16  # engines compute outputs in blocks of 16: fewer would be padded in every phase


class PhaseDeconvolution(nn.Module):
    """The same values as a transposed convolution whose output is ``stride`` times as large as its input."""

    def __init__(self, source: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.stride, padding = source.stride[0], int(source.padding[0])
        weight, bias = source.weight.detach(), source.bias
        assert bias is not None
        taps = [_taps(weight.shape[-1], self.stride, padding, phase) for phase in range(self.stride)]
        self.margins: list[tuple[int, int, int, int]] = []
        self.phases = nn.ModuleList()
        for rows, top, bottom in taps:
            for columns, left, right in taps:
                kernel = weight[:, :, rows][..., columns].transpose(0, 1).contiguous()
                phase = nn.Conv2d(source.in_channels, source.out_channels, (len(rows), len(columns)), device="meta")
                phase.weight = nn.Parameter(kernel, requires_grad=False)
                phase.bias = nn.Parameter(bias.detach(), requires_grad=False)
                self.phases.append(phase)
                self.margins.append((left, right, top, bottom))

    @staticmethod
    def fits(layer: nn.ConvTranspose2d) -> bool:
        """Tell whether a layer can be replaced, and gains by it."""
        kernel, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
        pairs = (layer.kernel_size, layer.stride, layer.padding, layer.output_padding, layer.dilation)
        return (
            all(pair[0] == pair[1] for pair in pairs)
            and layer.output_padding[0] == stride + 2 * padding - kernel
            and layer.dilation[0] == layer.groups == 1
            and kernel >= stride  # or a phase would have no taps
            and layer.bias is not None
            and layer.out_channels >= MIN_CHANNELS
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 [B, C, h, w] to [B, D, stride h, stride w]."""
        batch, _, height, width = x.shape
        pairs = zip(self.phases, self.margins, strict=True)
        parts = torch.stack([phase(functional.pad(x, margins)) for phase, margins in pairs], dim=2)
        channels = parts.shape[1] * parts.shape[2]
        return functional.pixel_shuffle(parts.reshape(batch, channels, height, width), self.stride)


def _taps(kernel: int, stride: int, padding: int, phase: int) -> tuple[list[int], int, int]:
    """Return one axis of a phase: its taps in the order of the inputs they see, and the margins that they need.

    Output ``stride * y + phase`` is the sum over taps k of input ``y + (phase + padding - k) / stride``.
    """
    taps = [k for k in range(kernel) if (phase + padding - k) % stride == 0][::-1]
    offsets = [(phase + padding - k) // stride for k in taps]
    return taps, -offsets[0], offsets[-1]
