"""How far into the future a system sees, computed from its recipe.

A test compares this with real networks, whose future frames it changes.
"""

from __future__ import annotations

from rtseg.config import Recipe
from rtseg.recordings.heads import Head


def future_frames(recipe: Recipe, fps: float) -> int | None:
    """Frames after t that the answer about frame t may depend on; None = the whole recording."""
    m = recipe.model
    if m.causal:
        return m.lookahead_frames
    # Networks other than multitask-tcn count every n-th frame.
    stride = 1 if m.kind in ("multitask-tcn", "gradient-boosting") else recipe.train.frame_stride
    # Layers in a row add up what each of them sees; half of a symmetric kernel lies in the future.
    half = (m.kernel - 1) // 2
    layers, reach = range(m.layers), None
    match m.kind:
        case "fully-connected":
            reach = m.window_frames // m.window_stride * m.window_stride
        case "conv1d":
            from rtseg.model.conv1d import Conv1D

            reach = Conv1D(1, [Head("any", ("no", "yes"), ("yes",), "any")], m).after
        case "self-attention":
            reach = m.depth * (m.attention_window // 2)
        case "ms-tcn":
            reach = m.stages * half * sum(2**i for i in layers)
        case "transformer":
            reach = m.stages * sum(half * 2**i + min(2**i, m.attention_window) for i in layers)
        case "multitask-tcn":
            reach = half * m.first_dilation * sum(2**i for i in layers)
            reach += half * m.head_first_dilation * sum(2**i for i in range(m.head_layers))
        case "gradient-boosting":
            reach = max(round(seconds * fps) for seconds in recipe.boosting.windows_s) // 2
    return None if reach is None else reach * stride
