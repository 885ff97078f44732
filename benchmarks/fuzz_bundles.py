"""Fuzzing what loads bundles: `python benchmarks/fuzz_bundles.py --cases 100000 --json results/fuzz-bundles.json`.

Manifests and weights are changed in one to three places and sealed again, so that every hash is right. Each is loaded
on a thread, as a daemon does it, while the main thread steps another stream every 5 ms. It is checked that

- a bundle is loaded or refused with BundleError, within TIME_S of the processor's time and MEMORY_MB;
- one that is loaded can be stepped through gaps to its end, and every prediction of it is a msgpack map.

Children do the work, a few hundred cases each, so that a crash is counted and does not end the run. How late the other
stream's steps came is reported, beside how late they came while nothing was loaded: the machine may have other work.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from result_file import print_result

from rtseg.bundle.bundle import MANIFEST, WEIGHTS, Bundle, load_bundle, save_bundle, seal
from rtseg.bundle.network import Cell, NetworkSpec
from rtseg.bundle.trees import Trees, TreesSpec
from rtseg.errors import BundleError
from rtseg.features.spec import FeatureSpec
from rtseg.frames.skeleton import MICE7
from rtseg.inference.classifier import Classifier, load
from rtseg.recordings.heads import Head
from rtseg.serve.publish.batch_sender import BatchSender
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Streams
from rtseg.system.machine import describe_run
from rtseg.wire.messages import Hello

TIME_S, MEMORY_MB = 1.0, 100
CASES_A_CHILD = 500
CASES_A_TURN, SETTLE_S = 25, 0.15
"""Cases are made before they are loaded, and the other stream is left to catch up in between: making them holds the
interpreter for up to 100 ms, which nothing in a daemon does."""
NUMBERS = [
    *(-1, 0, 1, 2, 3, 7, 16, 64, 255, 256, 1000, 4096, 65_536, 10**6, 2**31 - 1, 2**31, 2**63, 10**30),
    *(-1e-9, 1e-300, 1e-9, 0.5, 1e9, 1e300, float("nan"), float("inf"), "1", None, True, [], {}, [1]),
]
TEXTS = ["", "x", "x" * 300, "x" * 100_000, "\ud800", "\0", "../../x", "ü" * 200, 1, None, [], {}]
SEQS = [*range(8), 10, 11, 1_000_000_000, 1_000_000_001]


def small_bundle(folder: Path, seed: int) -> None:
    """A network of every kind of part, with random weights."""
    features = FeatureSpec(groups=("position", "speed", "approach", "averages"), lags=(1, 3))
    heads = (Head("one", ("a", "b", "c"), ("a",), "one"), Head("two", ("other", "b"), ("b",), "two"))
    n = len(features.features(MICE7))
    network = NetworkSpec(n, 8, 3, (1, 2, 4), 4, (1, 2), heads, (Cell(6, 5, 2),), features.views(MICE7))
    rng = np.random.default_rng(seed)
    weights = {k: rng.normal(0, 0.3, s).astype(np.float16).astype(np.float32) for k, s in network.shapes().items()}
    weights["scaler.clip"][:] = 6.0
    arena = (0.0, 0.0, 1024.0, 570.0)
    save_bundle(Bundle("small", MICE7, 30.0, arena, features, network, weights, lookahead_frames=2), folder)


def small_trees(folder: Path, like: Path, seed: int) -> None:
    """The same bundle with boosted trees in the place of its network: three comparisons in each."""
    bundle, rng = load_bundle(like), np.random.default_rng(seed)
    spec = TreesSpec(bundle.architecture.n_features, (9, 4), bundle.heads, (Trees(5, 105, 2), Trees(5, 35, 2)))
    tensors: dict[str, Any] = {}
    for name, shape in spec.shapes().items():
        tensors[name] = rng.normal(0, 0.3, shape).astype(spec.dtype(name))
        if name.endswith(".roots"):
            tensors[name] = np.arange(0, 7 * shape[0] * shape[1], 7, dtype=np.int32).reshape(shape)
        if name.endswith(".branches"):
            tree = np.array([(0, 1, 1), (0, 3, 4), (0, 5, 6), *[(0, 0, 0)] * 4], np.int32)
            places = np.arange(0, shape[0], 7, dtype=np.int32)[:, None, None] * (tree > 0)
            tensors[name] = np.ascontiguousarray((tree + places).reshape(shape), np.int32)
            tensors[name][:, 0] = rng.integers(0, spec.n_columns, shape[0])
    save_bundle(replace(bundle, name="small trees", architecture=spec, weights=tensors), folder)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a manifest, whole lists and maps included."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value[:12]) if isinstance(value, list) else ()
    for key, inner in items:
        found += leaves(inner, (*path, key))
    return found


def other_value(old: Any, draw: random.Random) -> Any:
    """Something else in the place of a value."""
    if isinstance(old, str) and draw.random() < 0.8:
        return draw.choice(TEXTS)
    if isinstance(old, list) and draw.random() < 0.8:
        many = draw.choice([2, 50, 5000])
        return draw.choice([[], old[:1], old[::-1], old * many, [None], [1e300], [old]])
    if isinstance(old, dict) and draw.random() < 0.8:
        return draw.choice([{}, None, [], "x", {**old, "extra": 1}])
    return draw.choice([*NUMBERS, draw.randrange(-10, 5000), draw.uniform(0, 100)])


def change_manifest(manifest: dict[str, Any], paths: list[tuple[Any, ...]], draw: random.Random) -> dict[str, Any]:
    """The manifest with one to three places changed."""
    changed = copy.deepcopy(manifest)
    for _ in range(draw.choice([1, 1, 2, 3])):
        *way, last = draw.choice(paths)
        inner: Any = changed
        try:
            for key in way:
                inner = inner[key]
            if draw.random() < 0.15:
                del inner[last]
            else:
                inner[last] = other_value(inner[last], draw)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took its place away
    return changed


def change_weights(data: bytes, draw: random.Random) -> bytes:
    """The weights' file with its header, its numbers or its length changed."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    kind = draw.randrange(6)
    if kind == 0:
        about = header[draw.choice([name for name in header if name != "__metadata__"])]
        key = draw.choice(list(about))
        about[key] = other_value(about[key], draw)
    elif kind == 1:  # finite numbers that make what is computed from them infinite
        values = np.frombuffer(body, "<f4").copy()
        values[draw.randrange(len(values)) :: draw.choice([1, 3, 97])] = draw.choice([3e38, -3e38, 1e-40, 65_504.0])
        body = bytearray(values.tobytes())
    elif kind == 2:
        at = draw.randrange(len(body))
        body[at : at + draw.choice([1, 8, 512])] = draw.randbytes(draw.choice([1, 8, 512]))
    elif kind == 5:  # places that are not there, or that lead back
        places = np.frombuffer(body, "<i4").copy()
        places[draw.randrange(len(places)) :: draw.choice([13, 997, 99_991])] = draw.choice([-1, 0, 1, 7, 2**31 - 1])
        body = bytearray(places.tobytes())
    elif kind == 3:
        body = body[: draw.randrange(len(body))]
    packed = json.dumps(header).encode()
    size = len(packed) if kind != 4 else draw.choice([0, 1, 2**20, 2**40, 2**63, len(packed) - 1])
    return size.to_bytes(8, "little") + packed + bytes(body)


def use(classifier: Classifier) -> None:
    """Step a stream through gaps to its end, and read every prediction as a client would."""
    model = ServedModel(classifier, "tcp://127.0.0.1:1")
    model.warm_up()
    streams, sender, bundle = Streams(model), BatchSender(None), classifier.bundle
    stream = streams.open_stream(b"", Hello("fuzz", bundle.skeleton, bundle.fps), None, 0)
    points = np.random.default_rng(0).uniform(0, 500, (*bundle.skeleton.shape, 2))

    def publish(predictions: list[Any]) -> None:
        for start in range(0, len(predictions), 64):
            for prediction in predictions[start : start + 64]:
                sender.add_prediction(stream, prediction, 0, wanted=True)
            for sent in sender.send_batch(pack_all=True)[0]:
                assert len(msgpack.unpackb(sent.packed)["probs"]) == len(bundle.heads)

    for seq in SEQS:
        publish(stream.session.step(classifier.frame(points, seq=seq)))
    publish(stream.session.finish())
    stream.session.restore(stream.session.snapshot())
    stream.drift()


class Child:
    """A process's share of the cases. quiet: the bundle of the stream that is stepped meanwhile."""

    def __init__(self, sources: list[Path], quiet: Path, seed: int) -> None:
        self._quiet = quiet
        self._draw, self._folder = random.Random(seed), Path(tempfile.mkdtemp(prefix="rtseg-fuzz-"))
        self._loads: list[tuple[float, float]] = []
        self.kinds: Counter[str] = Counter()
        self._sources = []
        for source in sources:
            manifest = json.loads((source / MANIFEST).read_bytes())
            manifest.pop("derived", None)
            self._sources.append((manifest, leaves(manifest), (source / WEIGHTS).read_bytes()))

    def make_case(self, folder: Path) -> None:
        """Write the next bundle into a folder of its own."""
        draw = self._draw
        # Mostly a small one, a network or trees: the shipped ones take longer, and have the same parts.
        n_sources = 2 if draw.random() < 0.9 else len(self._sources)
        manifest, paths, weights = self._sources[draw.randrange(n_sources)]
        self.kinds[manifest["architecture"]["kind"]] += 1
        data = weights
        if draw.random() < 0.3:
            data = change_weights(weights, draw)
            manifest = {**manifest, "files": {WEIGHTS: hashlib.sha256(data).hexdigest()}}
        else:
            manifest = change_manifest(manifest, paths, draw)
        text = seal(manifest)[0]
        if draw.random() < 0.02:  # text that is no JSON, or much of it
            text = draw.choice([b"[" * 10**5, b"[" + b"[]," * draw.choice([10**4, 3 * 10**5]) + b"1]", text[:-9], b""])
        folder.mkdir(exist_ok=True)
        (folder / MANIFEST).write_bytes(text)
        (folder / WEIGHTS).write_bytes(data)

    def load_case(self, folder: Path) -> str:
        """Load and use it; what came of that."""
        began_s, before_kb, start_s = time.thread_time(), peak_kb(), time.monotonic()
        try:
            classifier = load(folder, "numba", 4)
            what = "loaded"
        except BundleError:
            what = "refused"
        finally:
            self._loads.append((start_s, time.monotonic()))
        if (took_s := time.thread_time() - began_s) > TIME_S:
            return f"slow: {what} in {took_s:.1f} s"
        if (grew_mb := (peak_kb() - before_kb) / 1024) > MEMORY_MB:
            return f"large: {what}, {grew_mb:.0f} MB more"
        if what == "loaded":
            use(classifier)
        return what

    def run(self, n_cases: int) -> tuple[Counter[str], list[float], list[float], list[float]]:
        """Results, processor seconds of each case, and by how many ms each step of the other stream came late: those
        due while a bundle was loaded, and before.
        """
        results: Counter[str] = Counter()
        took: list[float] = []
        use(load(self._quiet, "numba", 4))  # compiled code is read now, as a daemon reads it before it serves

        def work() -> None:
            sys.setswitchinterval(50e-6)  # as `serve.streams.bundle_loader`
            for done in range(0, n_cases, CASES_A_TURN):
                folders = [self._folder / str(i) for i in range(min(CASES_A_TURN, n_cases - done))]
                for folder in folders:
                    self.make_case(folder)
                time.sleep(SETTLE_S)
                for folder in folders:
                    began_s = time.thread_time()
                    try:
                        results[self.load_case(folder)] += 1
                    except Exception as error:
                        results[f"{type(error).__name__}: {error}"[:200]] += 1
                    took.append(time.thread_time() - began_s)

        idle, thread = threading.Thread(target=time.sleep, args=(0.5,)), threading.Thread(target=work)
        steps = []
        for each in (idle, thread):
            each.start()
            steps.append(step_meanwhile(load(self._quiet, "numba", 1), each))
            each.join()
        shutil.rmtree(self._folder)
        starts, ends = np.array(self._loads).T
        due_s, late_ms = np.array(steps[1]).reshape(-1, 2).T
        loading = due_s < ends[np.maximum(np.searchsorted(starts, due_s, "right") - 1, 0)]
        return results, took, late_ms[loading & (due_s >= starts[0])].tolist(), [late for _, late in steps[0]]


def step_meanwhile(classifier: Classifier, thread: threading.Thread) -> list[tuple[float, float]]:
    """Step a stream every 5 ms while a thread works: when each step was due, and how many ms later its answer came."""
    session = classifier.open("quiet")
    points = np.random.default_rng(1).uniform(0, 500, (*classifier.bundle.skeleton.shape, 2))
    steps, seq, due = [], 0, time.monotonic()
    while thread.is_alive():
        due = max(due + 0.005, time.monotonic() - 0.1)
        time.sleep(max(0.0, due - time.monotonic()))
        session.step(classifier.frame(points, seq=seq))
        steps.append((due, (time.monotonic() - due) * 1e3))
        seq += 1
    return steps


def peak_kb() -> int:
    """Most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def percentiles(late_ms: list[float]) -> dict[str, float]:
    """Of how many ms late, by their names; steps: how many there are."""
    shown = {q: round(float(np.percentile(late_ms, float(q))), 2) for q in ("50", "99", "99.9", "100")}
    return {"steps": len(late_ms), **shown, "over_10_ms": sum(ms > 10 for ms in late_ms)}


def all_runs(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What several runs found together, and each of them."""
    results: Counter[str] = Counter()
    for run in runs:
        results.update(run["results"])
    cases = sum(run["cases"] for run in runs)
    return {
        "cases": cases,
        "results": dict(results.most_common(40)),
        "crashes": sum(run["crashes"] for run in runs),
        "passed": results["loaded"] + results["refused"] == cases,
        "runs": runs,
    }


def work(sources: list[Path], quiet: Path, seed: int, n_cases: int, results: Any) -> None:
    """A child process."""
    child = Child(sources, quiet, seed)
    results.put((*child.run(n_cases), child.kinds))


def main() -> None:
    """Parse the options, fuzz, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="*", default=[Path("engines/rats58"), Path("engines/mice-sim")])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long, whatever was done")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--add", action="store_true", help="to the runs that the file has; the seed must be a new one")
    chosen = parser.parse_args()
    earlier = json.loads(chosen.json.read_text())["runs"] if chosen.add else []
    if chosen.seed in [run["seed"] for run in earlier]:
        parser.error(f"a run with seed {chosen.seed} is there already: its cases would be the same")
    results: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    took: list[float] = []
    late: list[float] = []
    otherwise: list[float] = []
    began_s, crashes, child = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small"
        small_bundle(small, chosen.seed)
        trees = Path(folder) / "trees"
        small_trees(trees, small, chosen.seed)
        for one in (small, trees):
            use(load(one, "numba", 4))  # compiled once; children inherit it
        context = multiprocessing.get_context("fork")
        while sum(results.values()) < chosen.cases and time.monotonic() - began_s < 60 * chosen.minutes:
            queue = context.SimpleQueue()
            n = min(CASES_A_CHILD, chosen.cases - sum(results.values()))
            seed = chosen.seed * 1_000_003 + child
            process = context.Process(target=work, args=([small, trees, *chosen.bundles], small, seed, n, queue))
            process.start()
            done_s = time.monotonic() + 120 + n * TIME_S
            while process.is_alive() and queue.empty() and time.monotonic() < done_s:
                time.sleep(0.05)
            if queue.empty():
                crashes += 1
                results[f"child {child} ended with {process.exitcode}, or hangs"] += n
                process.kill()
            else:
                one, seconds, ms, ms_idle, of_kinds = queue.get()
                results += one
                kinds += of_kinds
                took += seconds
                late += ms
                otherwise += ms_idle
            process.join()
            child += 1
    this_run = {
        **describe_run(("numba", "numpy", "msgpack")),
        "seed": chosen.seed,
        "cases": sum(results.values()),
        "kinds": dict(kinds),
        "results": dict(results.most_common(40)),
        "crashes": crashes,
        "slowest_cpu_s": round(max(took, default=0.0), 3),
        "other_stream": {"while_loading": percentiles(late), "otherwise": percentiles(otherwise)},
        "minutes": round((time.monotonic() - began_s) / 60, 1),
    }
    result = all_runs([*earlier, this_run])
    print_result(result, chosen.json)
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()
