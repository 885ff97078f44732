"""The round trips of files, with many more examples than a test run has: is what was meant what is read, or refused?

Runs tests/recordings/test_round_trips.py, whose writers share no code with the readers, again and again with other
seeds, and counts what was tried and what failed. A failure is printed whole, with its seed.

    nice -n 19 python benchmarks/read_property.py --rounds 9 --factor 10 --json benchmarks/results/read-property.json
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from rtseg.system import machine
from rtseg.system.files import write_json_atomically

REPO = Path(__file__).parent.parent
TESTS = "tests/recordings/test_round_trips.py"
_TEST = re.compile(rf"^{re.escape(TESTS)}::(\w+)")
_COUNTS = re.compile(r"(\d+) passing, (\d+) failing,(?: and)? (\d+) invalid test cases")


def main() -> None:
    """Run all rounds and write what was counted after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--factor", type=int, default=10, help="times the examples of a test run, in each round")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each has the next one")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    words = f"--rounds {options.rounds} --factor {options.factor} --seed {options.seed}"
    result: dict[str, Any] = machine.describe_run(("numpy", "hypothesis", "h5py"))
    result |= {"kind": "round trips of files", "command": f"python benchmarks/read_property.py {words} --json FILE"}
    counted = {kind: Counter[str]() for kind in ("passing", "failing", "invalid")}
    failures: list[dict[str, Any]] = []
    for seed in range(options.seed, options.seed + options.rounds):
        output, code = run_round(seed, options.factor)
        for kind, by_test in counts_of(output).items():
            counted[kind].update(by_test)
        if code:
            failures.append({"seed": seed, "output": output[-20_000:]})
            print(output, file=sys.stderr)
        totals = {kind: by_test.total() for kind, by_test in counted.items()}
        print(f"seed {seed}: {totals}", file=sys.stderr, flush=True)
        result |= {"seeds": [options.seed, seed], "examples": totals, "by_test": counted, "failures": failures}
        write_json_atomically(options.json, result)
    sys.exit(bool(failures))


def run_round(seed: int, factor: int) -> tuple[str, int]:
    """pytest's output and exit code."""
    words = [f"--hypothesis-seed={seed}", "--hypothesis-show-statistics", "-q", TESTS]
    environment = os.environ | {"RTSEG_EXAMPLES": str(factor), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=REPO, env=environment, capture_output=True, text=True
    )
    return done.stdout + done.stderr, done.returncode


def counts_of(output: str) -> dict[str, dict[str, int]]:
    """Passing, failing and invalid examples of each test, all phases together."""
    found: dict[str, dict[str, int]] = {"passing": {}, "failing": {}, "invalid": {}}
    test = ""
    for line in output.splitlines():
        if head := _TEST.match(line):
            test = head[1]
        elif counts := _COUNTS.search(line):
            for kind, number in zip(found, counts.groups(), strict=True):
                found[kind][test] = found[kind].get(test, 0) + int(number)
    return found


if __name__ == "__main__":
    main()
