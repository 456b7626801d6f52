"""FLOP/s of devices at their best, from their makers' data sheets."""

from __future__ import annotations

import re

PEAKS = {
    "B200": (2250e12, 1125e12),
    "H100 PCIe": (756e12, 378e12),
    "H100 NVL": (835e12, 418e12),
    "H100": (989e12, 495e12),
    "H200": (989e12, 495e12),
    "A100": (312e12, 156e12),
    "L40S": (362e12, 183e12),
    "L4": (121e12, 60e12),
    "A10": (125e12, 62.5e12),
    "RTX 4090": (165e12, 82.6e12),
}
"""Part of a device's name → dense FLOP/s in 16 bits, and in float32 by TF32."""

HALF = ("16-mixed", "bf16-mixed", "16-true", "bf16-true")


def find_peak(name: str, precision: str = "bf16-mixed") -> float | None:
    """FLOP/s of a device by its name; the longest part that occurs in it counts.

    Args:
        name: As CUDA says it: ``NVIDIA H100 80GB HBM3``.
        precision: Lightning's. Float32 counts as TF32, in which cuDNN convolves unless told not to.

    Returns:
        None for another device, or for float64.
    """
    named = [part for part in PEAKS if re.search(rf"\b{part}\b", name)]
    part = max(named, key=len, default=None)
    if part is None or not (precision in HALF or precision == "32-true"):
        return None
    half, single = PEAKS[part]
    return half if precision in HALF else single
