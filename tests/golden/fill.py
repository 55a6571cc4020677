# fmt: off
# ruff: noqa
"""Deterministic parameter filler for the reference models (numpy only).

    fill(keys_json, seed) -> {key: float32 ndarray}      # every float *parameter*; buffers are left alone

keys_json: path to <model>_state.json, or the already-loaded list.
Each tensor has its own PCG64 stream, seeded by (seed, crc32(key)); values use only raw 64-bit
words, integer adds, IEEE float64 mul/add/sqrt and ldexp - no libm, no Generator distributions -
so the same bytes come out on every machine and numpy version.

    python fill.py <model>_state.json <seed>             # prints key count and a digest
"""
import hashlib
import json
import re
import sys
import zlib

import numpy as np

# ---------------------------------------------------------------- raw streams


class _Stream:
    def __init__(self, seed, key):
        self.bg = np.random.PCG64(np.random.SeedSequence([int(seed), zlib.crc32(key.encode())]))

    def normal(self, shape):
        """~N(0,1): Irwin-Hall of eight 16-bit uniforms (two raw words), exact integer sum."""
        n = int(np.prod(shape, dtype=np.int64))
        w = np.asarray(self.bg.random_raw(2 * n), dtype=np.uint64).reshape(n, 2)
        s = np.zeros(n, dtype=np.int64)
        for sh in (0, 16, 32, 48):
            part = (w >> np.uint64(sh)) & np.uint64(0xFFFF)
            s += part[:, 0].astype(np.int64) + part[:, 1].astype(np.int64)
        # mean 8*65535/2, variance 8*(65536^2-1)/12
        sd = np.sqrt(np.float64(8.0 * (65536.0 * 65536.0 - 1.0) / 12.0))
        return ((s.astype(np.float64) - 262140.0) / sd).reshape(shape)

    def uniform(self, shape):
        """[0,1) with 53 bits."""
        n = int(np.prod(shape, dtype=np.int64))
        w = np.asarray(self.bg.random_raw(n), dtype=np.uint64)
        return np.ldexp((w >> np.uint64(11)).astype(np.float64), -53).reshape(shape)

    def logspread(self, shape, lo, hi):
        """piecewise-linear stand-in for a log-uniform draw on [2**lo, 2**hi)."""
        u = self.uniform(shape) * (hi - lo) + lo
        k = np.floor(u)
        return np.ldexp(1.0 + (u - k), k.astype(np.int64))


# ---------------------------------------------------------------- rules
# (pattern, weight gain, bias std, bias mean) for '<pattern>.weight' / '<pattern>.bias'
# gain multiplies 1/sqrt(fan_in). First match wins. Patterns are matched with re.fullmatch
# against the module path (key without the last component).
_W = [
    # --- MLIC++
    (r"g_a\.analysis_transform\.0\.conv1", 3.0, 0.3, 0.0),
    (r"g_a\.analysis_transform\.\d+\.(conv1|conv2)", 1.5, 0.1, 0.0),
    (r"g_a\.analysis_transform\.0\.skip", 2.0, 0.1, 0.0),
    (r"g_a\.analysis_transform\.\d+\.skip", 1.0, 0.1, 0.0),
    (r"g_a\.analysis_transform\.6", 0.36, 0.4, 0.0),
    (r"g_s\.synthesis_transform\.0\.(conv1|skip)", 0.4, 0.1, 0.0),
    (r"g_s\.synthesis_transform\.7\.0", 0.13, 0.1, 0.45),
    (r"g_s\.synthesis_transform\.\d+\.(subpel_conv|upsample)\.0", 0.75, 0.1, 0.0),
    (r"g_s\.synthesis_transform\.\d+\.(conv|conv1|conv2|skip)", 0.75, 0.1, 0.0),
    (r"h_a\.reduction\.0", 0.7, 0.1, 0.0),
    (r"h_a\.reduction\.8", 4.5, 0.5, 0.0),
    (r"h_s\.increase\.0", 0.7, 0.1, 0.0),
    (r"h_s\.increase\.(2|6)\.0", 1.5, 0.1, 0.0),
    (r"h_s\.increase\.8", 2.0, 0.3, 0.0),
    (r"local_context\.\d+\.fusion", 1.0, 0.1, 0.0),
    (r"local_context\.\d+\.(qkv_proj)", 1.6, 0.3, 0.0),
    (r"local_context\.\d+\.(proj|mlp\.fc1|mlp\.fc2)", 1.2, 0.1, 0.0),
    (r"channel_context\.\d+\.fushion\.0", 0.6, 0.1, 0.0),
    (r"global_(inter|intra)_context\.\d+\.(keys|queries)\.\d", 1.2, 0.2, 0.0),
    (r"global_(inter|intra)_context\.\d+\.values\.\d", 1.2, 0.2, 0.0),
    (r"global_(inter|intra)_context\.\d+\.reprojection", 0.6, 0.2, 0.0),
    (r"global_(inter|intra)_context\.\d+\.(mlp\.\d|skip)", 1.3, 0.1, 0.0),
    (r"entropy_parameters_(anchor|nonanchor)\.\d+\.fusion\.0", 1.2, 0.1, 0.0),
    (r"entropy_parameters_(anchor|nonanchor)\.\d+\.fusion\.6", 0.5, 0.3, 0.0),
    (r"lrp_(anchor|nonanchor)\.\d+\.lrp_transform\.0", 0.5, 0.1, 0.0),
    (r"lrp_(anchor|nonanchor)\.\d+\.lrp_transform\.(4|6)", 0.7, 0.1, 0.0),
    # --- STF / WACNN shared
    (r"h_a\.0", 0.7, 0.1, 0.0),
    (r"h_a\.8", 6.0, 0.5, 0.0),
    (r"h_(mean|scale)_s\.0", 0.7, 0.1, 0.0),
    (r"h_(mean|scale)_s\.(2|6)\.0", 1.5, 0.1, 0.0),
    (r"h_(mean|scale)_s\.8", 2.0, 0.3, 0.0),
    (r"cc_(mean|scale)_transforms\.\d+\.0", 0.7, 0.1, 0.0),
    (r"cc_mean_transforms\.\d+\.8", 1.5, 0.3, 0.0),
    (r"cc_scale_transforms\.\d+\.8", 1.0, 0.3, 0.0),
    (r"lrp_transforms\.\d+\.0", 0.6, 0.1, 0.0),
    (r"lrp_transforms\.\d+\.8", 1.0, 0.1, 0.0),
    # --- WACNN transforms
    (r"g_a\.0", 4.0, 0.3, 0.0),
    (r"g_a\.(2|5)", 1.5, 0.1, 0.0),
    (r"g_a\.7", 1.3, 0.4, 0.0),
    (r"g_s\.1", 0.4, 0.1, 0.0),            # transposed convs
    (r"g_s\.(3|6)", 0.9, 0.1, 0.0),
    (r"g_s\.8", 0.045, 0.1, 0.45),
    (r"g_[as]\.\d+\.conv_[ab]\.\d+\.attn\.qkv", 1.2, 0.2, 0.0),
    (r"g_[as]\.\d+\.conv_[ab]\.\d+\.conv\.0", 1.0, 0.1, 0.0),
    (r"g_[as]\.\d+\.conv_[ab]\.\d+\.conv\.4", 0.6, 0.1, 0.0),
    # --- STF transforms
    (r"patch_embed\.proj", 3.0, 0.3, 0.0),
    (r"(layers|syn_layers)\.\d+\.blocks\.\d+\.attn\.qkv", 1.4, 0.2, 0.0),
    (r"(layers|syn_layers)\.\d+\.blocks\.\d+\.(attn\.proj|mlp\.fc2)", 0.8, 0.1, 0.0),
    (r"(layers|syn_layers)\.\d+\.downsample\.reduction", 1.6, 0.1, 0.0),
    (r"end_conv\.0", 0.6, 0.1, 0.0),
    (r"end_conv\.2", 0.12, 0.1, 0.45),
]
_W = [(re.compile(p), g, b, m) for p, g, b, m in _W]
_DEFAULT = (1.4, 0.1, 0.0)
_DECONV = re.compile(r"g_s\.(1|3|6|8)")                       # WACNN: weight is (in, out, k, k), stride 2
_SCALE_HEAD = re.compile(r"entropy_parameters_(anchor|nonanchor)\.\d+\.fusion\.6|cc_scale_transforms\.\d+\.8")
_EB_MATRIX_INIT = (-1.4519, -1.4519, -1.4519, -1.4519, -0.1284)   # log(expm1(1/10**0.2/fan_out))


def _gain(mod):
    for p, g, b, m in _W:
        if p.fullmatch(mod):
            return g, b, m
    return _DEFAULT


def _one(key, shape, seed, has_wacnn_deconv):
    r = _Stream(seed, key)
    mod, _, leaf = key.rpartition(".")
    shape = tuple(shape)
    if mod == "entropy_bottleneck" or mod.startswith("entropy_bottleneck."):
        # names vary with the CompressAI version: _matrix0 / matrices.0 / _matrices.0
        kind = "matri" if "matri" in key else "bias" if "bias" in key else "factor" if "factor" in key else "q"
        idx = int(key[-1]) if key[-1].isdigit() else 0
        if kind == "matri":
            return _EB_MATRIX_INIT[idx] + 0.25 * r.normal(shape)
        if kind == "bias":
            return 0.3 * r.normal(shape)
        if kind == "factor":
            return 0.3 * r.normal(shape)
        med = 0.7 * r.normal(shape[:-1])
        lo = 6.0 + 6.0 * r.uniform(shape[:-1])
        hi = 6.0 + 6.0 * r.uniform(shape[:-1])
        return np.stack([med - lo, med, med + hi], axis=-1)
    if leaf == "beta":                                     # GDN, stored as sqrt(beta + 2^-36)
        return 1.0 + 0.15 * r.normal(shape)
    if leaf == "gamma":                                    # off-diagonal: about half lie under the bound
        return 0.02 * r.normal(shape) + np.diag(0.25 + 0.1 * r.uniform(shape[0]))
    if "relative_position" in leaf:
        return 0.6 * r.normal(shape)
    if leaf == "weight" and len(shape) == 1:               # LayerNorm
        return 1.0 + 0.15 * r.normal(shape)
    if leaf == "bias" and re.search(r"(^|\.)norm\d?$", mod):
        return 0.1 * r.normal(shape)
    g, bstd, bmean = _gain(mod)
    if leaf == "weight":
        if has_wacnn_deconv and _DECONV.fullmatch(mod):
            fan = shape[0] * shape[2] * shape[3] / 4.0
        else:
            fan = 1
            for d in shape[1:]:
                fan *= d
        return (g / np.sqrt(np.float64(fan))) * r.normal(shape)
    if leaf == "bias":
        b = bmean + bstd * r.normal(shape)
        if _SCALE_HEAD.fullmatch(mod):
            n = shape[0] // 2 if mod.startswith("entropy_parameters") else shape[0]
            s = r.logspread((n,), -1.5, 4.0)               # about 0.4 .. 16
            b[:n] = s
        return b
    raise KeyError("no rule for %s %s" % (key, shape))


def fill(keys_json, seed):
    if isinstance(keys_json, (str, bytes)) or hasattr(keys_json, "__fspath__"):
        with open(keys_json) as f:
            keys_json = json.load(f)
    wacnn = any(e["key"] == "g_s.1.weight" for e in keys_json)
    out = {}
    for e in keys_json:
        if e["is_buffer"] or not e["dtype"].startswith("float"):
            continue
        out[e["key"]] = np.ascontiguousarray(_one(e["key"], e["shape"], seed, wacnn).astype(np.float32))
    return out


def digest(params):
    h = hashlib.sha256()
    for k in sorted(params):
        h.update(k.encode())
        h.update(params[k].astype("<f4").tobytes())
    return h.hexdigest()


def image(h, w, seed=0):
    """Deterministic float32 test picture 1x3xHxW in [0,1], multiples of 1/255: smooth ramps, edges, texture."""
    y, x = np.mgrid[0:h, 0:w].astype(np.int64)
    s = int(seed) % 251
    base = np.stack([(3 * x + 2 * y + s) % 256, (5 * y + x * y // 16 + 7 * s) % 256, (x * x // 24 + 4 * y + 11 * s) % 256])
    tri = np.abs(base - 128) * 3 // 2                                       # triangle waves 0..192
    blocks = (((x // 24) + (y // 20)) % 3) * 20                             # edges
    noise = np.asarray(np.random.PCG64(np.random.SeedSequence([s, 77])).random_raw(3 * h * w), dtype=np.uint64)
    noise = ((noise >> np.uint64(40)) % np.uint64(33)).astype(np.int64).reshape(3, h, w) - 16
    v = np.clip(tri + blocks[None] + noise, 0, 255)
    return (v.astype(np.float32) / np.float32(255.0))[None]


if __name__ == "__main__":
    p = fill(sys.argv[1], int(sys.argv[2]))
    print(len(p), "tensors", sum(v.size for v in p.values()), "values sha256", digest(p))
