"""How long a frame's way takes, every part beside its floor in the same run (`rtseg bench`).

timing: rows, ratios and the interleaving. steps: features, engine and session, in this process. wire: client, daemon
and subscriber as processes of their own. run: all of it, with machine and versions. table: what is shown.
"""

from rtseg.bench.run import DEFAULT_PARTS, PARTS, bench
from rtseg.bench.table import print_result

__all__ = ["DEFAULT_PARTS", "PARTS", "bench", "print_result"]
