"""The compiled functions of a daemon's frames, for its first start on a machine (`compiled.ahead`).

Their arguments stand here once more, since nothing has been called yet; `tests/serve/test_kernels.py` holds them to
those of a daemon that runs.
"""

from __future__ import annotations

from rtseg.compiled import libzmq
from rtseg.compiled.ahead import Kernel
from rtseg.config import ServeSettings
from rtseg.engine.base import Engine
from rtseg.inference import model_slots

RECEIVE = Kernel(
    "rtseg.wire.batch_receiver", "_receive", "int64, int64[:,::1], int64, int64, float32[:,:,:,::1], float32[:,:,::1]"
)
DISPATCH = Kernel(
    "rtseg.serve.publish.batch_sender",
    "_dispatch",
    "int64, int64[:,::1], int64[:,::1], int64[:,::1], float32[:,::1], int16[:,::1], boolean[:,::1], boolean[:,::1], "
    "int64, int64, int64, int64",
)
# It calls the one for several frames, which is compiled with it.
DECIDE = Kernel(
    "rtseg.triggers.rows",
    "_decide_one",
    "int64, int64, int64, int64, int64[:,::1], float32[:,::1], int16[:,::1], int32[::1]",
)
WATCH = Kernel("rtseg.serve.access.flood_watch", "_watch", "int64[::1], uint8[::1], boolean, int64[::1], int64[::1]")


def kernels_of(engine: Engine, settings: ServeSettings) -> list[Kernel]:
    """What a daemon with this engine and these settings calls, those first that take longest to compile."""
    *longest, decoding = model_slots.kernels_of(engine)
    kernels = [*longest, DISPATCH]
    kernels += [DECIDE] if settings.triggers else []
    kernels += [RECEIVE] if libzmq.addresses() is not None else []
    kernels.append(decoding)
    kernels += [WATCH] if libzmq.addresses() is not None else []
    return kernels
