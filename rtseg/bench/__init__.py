"""How long a frame's way takes, every part beside its floor in the same run (`rtseg bench`).

roofline      The least that a step of the network can cost on this machine
run           All parts of the benchmark in one run, with what tells results apart
steps         The parts of a frame's way that run inside one process
table         What a benchmark shows on the screen
timing        What a benchmark consists of
walk          The keypoints that a benchmark feeds
wire          Wire to wire
wire_process  The processes around the daemon while it is timed
"""

from rtseg.bench.run import DEFAULT_PARTS, PARTS, bench
from rtseg.bench.table import print_result

__all__ = ["DEFAULT_PARTS", "PARTS", "bench", "print_result"]
