"""How many px are a mm: which numbers can be meant."""

from __future__ import annotations

MIN_PX_PER_MM, MAX_PX_PER_MM = 1e-6, 1e6
"""A whale from far above, a mite under a microscope, and far beyond. Kernels divide by squares of their ratios."""
EXPECTED = f"expected how many px are a mm, from {MIN_PX_PER_MM:g} to {MAX_PX_PER_MM:g}"


def is_px_per_mm(value: float) -> bool:
    """Whether px_per_mm can be meant; NaN and infinity cannot."""
    return MIN_PX_PER_MM <= value <= MAX_PX_PER_MM
