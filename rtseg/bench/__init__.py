"""How long a frame takes on its way, every part beside its floor in the same run (`rtseg bench`).

processes     The processes of a benchmark and what they say to their parent: `start_process`, `BenchProcess`, `say`
roofline      The least that a step of the network can cost on this machine: `Work`
run           All parts of the benchmark in one run, with what tells results apart: `bench`
steps         The parts of the way inside one process: `features_part`, `engine_part`, `session_part`
table         A benchmark's result on the screen: `print_result`
timing        Rows of percentiles, ratios with aims, cases in turns: `BenchPart`, `TimingRow`, `Ratio`, `interleaved`
walk          The keypoints that a benchmark feeds: `walk`
wire          Client to daemon to subscriber, as processes of their own: `wire_part`, `load_part`
wire_process  The processes around the daemon while it is timed, run as `python -m`
"""

from rtseg.bench.run import DEFAULT_PARTS, PARTS, bench
from rtseg.bench.table import print_result

__all__ = ["DEFAULT_PARTS", "PARTS", "bench", "print_result"]
