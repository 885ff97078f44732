"""The processes of `benchmarks/serve.py`: one that sends, one that hears, and a loop such as closed-loop tools have.

`python benchmarks/serve_process.py send|hear|peer JSON`. Lines `word {json}` as in `wire_process`. Both ends are as
lean as they can be in Python, so that a thousand cameras fit on one core: frames are packed beforehand and only their
numbers and times are put in; of an answer only its times are read, which stand at a fixed place.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import zmq

from rtseg.bench.processes import bound_address, open_socket, say
from rtseg.bench.walk import N_FRAMES, walk
from rtseg.bench.wire_process import PAUSE_S
from rtseg.bundle.bundle import load_bundle
from rtseg.errors import ServeError
from rtseg.wire.messages import Hello, frame_message

SILENCE_S = 5.0
"""Who hears nothing for so long takes the rest for lost."""
BETWEEN_S = 0.2
CAMERAS_A_SOCKET = 50
_TIMES = struct.Struct(">Q12xxQ10xxQ9xxQ")
"""seq, t_source_ns, t_recv_ns and t_pub_ns within a packed prediction (`rtseg.wire.prediction_packer`)."""
Side = dict[str, Any]
Send = Callable[[int, int], None]
"""Send frame `seq` of camera `i`."""


def send(
    sides: list[Side], bundle: str, turns: list[tuple[int, int, float]], cameras: int, together: bool = False
) -> None:
    """Every turn's frames at their time. turns: (side, frames of each camera, frames per second)."""
    served = load_bundle(bundle)
    frames = _packed_frames(served, cameras)
    phases = np.zeros(cameras) if together else np.sort(np.random.default_rng(0).random(cameras))
    seqs, late_ns = [0] * len(sides), []
    with zmq.Context() as context:
        ways = [_way(context, side, served, frames, cameras) for side in sides]
        say("ready", {})
        sys.stdin.readline()
        for at, n_frames, fps in turns:
            start_s, way, first = time.monotonic() + PAUSE_S, ways[at], seqs[at]
            for t in range(n_frames):
                for camera in range(cameras):
                    planned_s = start_s + (t + phases[camera]) / fps
                    while (wait_s := planned_s - time.monotonic()) > 0:
                        time.sleep(wait_s)
                    late_ns.append(int(-wait_s * 1e9))
                    way(camera, first + t)
            seqs[at] += n_frames
            time.sleep(BETWEEN_S)  # what is on its way arrives
        late = np.percentile(late_ns, (50, 99)).tolist() if late_ns else [0, 0]
        say("done", {"late_us": [value / 1e3 for value in late]})
        sys.stdin.readline()  # the streams stay open until all has been read


def hear(sides: list[Side], turns: list[tuple[int, int, float]], cameras: int, prefix: int) -> None:
    """Latencies in ns of every turn, and the daemon's own share. prefix: where the times stand in a prediction."""
    with zmq.Context() as context:
        hearing = [_ear(context, side, prefix) for side in sides]
        say("ready", {})
        results: list[dict[str, list[int]]] = []
        for at, n_frames, _ in turns:
            wanted, receive = n_frames * cameras, hearing[at]
            latency: list[int] = []
            inside: list[int] = []
            while len(latency) < wanted:
                got = receive()
                if got is None:
                    break
                latency.append(got[0])
                inside.append(got[1])
            results.append({"latency_ns": latency, "inside_ns": inside})
    say("done", {"turns": results})


def peer(frames: str, predictions: str, bundle: str) -> None:
    """Features, the whole window through torch for every frame, publish: tools whose network can't be stepped."""
    import torch

    from rtseg.features.extractor import FeatureExtractor
    from rtseg.model.tcn import MultitaskTCN

    torch.set_num_threads(1)
    served = load_bundle(bundle)
    model = MultitaskTCN(served.network).eval()
    model.load_weights(served.weights)
    extractor = FeatureExtractor(served.skeleton, served.features, served.fps)
    state, slots = extractor.init_state(1, served.arena), np.zeros(1, np.int32)
    window: deque[Any] = deque(maxlen=max(served.warmup_frames, 64))
    (a, k), packer = served.skeleton.shape, msgpack.Packer()
    with zmq.Context() as context, open_socket(context, zmq.ROUTER) as router, open_socket(context, zmq.XPUB) as xpub:
        router.bind(frames)
        xpub.bind(predictions)
        say("ready", {"frames": bound_address(router), "predictions": bound_address(xpub)})
        xpub.recv()
        say("subscribed", {})
        while True:
            message = msgpack.unpackb(router.recv_multipart()[1])
            if "kp" not in message:
                return
            keypoints = np.frombuffer(message["kp"], "<f4").reshape(1, a, k, 2).copy()
            confidence = np.frombuffer(message["conf"], "<f4").reshape(1, a, k).copy()
            out = np.empty((1, extractor.n_features), np.float32)
            extractor.step(keypoints, confidence, slots, state, out)
            window.append(out)
            with torch.inference_mode():
                probs = model.probabilities(torch.from_numpy(np.concatenate(window))[None])[0, -1].numpy()
            message = {key: message[key] for key in ("stream", "seq", "t_source_ns")} | {"probs": probs.tobytes()}
            xpub.send_multipart([message["stream"].encode(), packer.pack(message)])


def _packed_frames(served: Any, cameras: int) -> list[list[bytearray]]:
    """Of each camera a few frames of the walk, to be numbered when they are sent."""
    keypoints, confidence = walk(served)
    few = 8 if cameras > 50 else N_FRAMES
    return [
        [
            bytearray(
                msgpack.packb(
                    # Numbers so large that they take the room of any.
                    frame_message(camera_name(c), 2**62, 2**62, keypoints[t].tobytes(), confidence[t].tobytes())
                )
            )
            for t in ((i + 37 * c) % N_FRAMES for i in range(few))
        ]
        for c in range(cameras)
    ]


def camera_name(camera: int) -> str:
    """The name of a camera's stream; all have the same length, so that an answer's times stand at one place."""
    return f"cage {camera:05d}"


def _way(context: zmq.Context[Any], side: Side, served: Any, frames: list[list[bytearray]], cameras: int) -> Send:
    if side["kind"] == "lsl":
        return _lsl_way(served, frames)
    sockets = [open_socket(context, zmq.DEALER) for _ in range(-(-cameras // CAMERAS_A_SOCKET))]
    for socket in sockets:
        socket.connect(side["frames"])
    if side["kind"] == "daemon":
        for camera in range(cameras):
            socket = sockets[camera // CAMERAS_A_SOCKET]
            socket.send(msgpack.packb(Hello(camera_name(camera), served.skeleton, served.fps).to_message()))
            answer = msgpack.unpackb(socket.recv())
            if answer["type"] != "accepted":
                raise ServeError(f"{camera_name(camera)}: {answer}")
    mark = struct.pack(">Q", 2**62)
    first = frames[0][0].index(mark)
    second = frames[0][0].index(mark, first + 8)
    number = struct.Struct(">Q")

    def way(camera: int, seq: int) -> None:
        own = frames[camera]
        data = own[seq % len(own)]
        number.pack_into(data, first, seq)
        number.pack_into(data, second, time.monotonic_ns())
        sockets[camera // CAMERAS_A_SOCKET].send(bytes(data))

    return way


def _ear(context: zmq.Context[Any], side: Side, prefix: int) -> Callable[[], tuple[int, int] | None]:
    if side["kind"] == "lsl":
        return _lsl_ear()
    sub = open_socket(context, zmq.SUB)
    sub.subscribe(b"cage")
    sub.connect(side["predictions"])
    at_fixed_place = side["kind"] == "daemon"
    clock, milliseconds = time.monotonic_ns, int(SILENCE_S * 1000)
    sub.rcvtimeo = milliseconds

    def ear() -> tuple[int, int] | None:
        while True:
            try:
                sub.recv()
                data = sub.recv()
            except zmq.Again:
                return None
            now_ns = clock()
            if not at_fixed_place:
                return now_ns - msgpack.unpackb(data)["t_source_ns"], 0
            if data[0] == 0x8C:  # a prediction has twelve fields; events have fewer
                _, source_ns, recv_ns, pub_ns = _TIMES.unpack_from(data, prefix)
                return now_ns - source_ns, pub_ns - recv_ns

    return ear


def _lsl_way(served: Any, frames: list[list[bytearray]]) -> Send:
    """One outlet of keypoints and their time; no daemon and no model on the way."""
    import pylsl

    channels = 1 + 2 * served.skeleton.shape[0] * served.skeleton.shape[1]
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo("rtseg-bench", "pose", channels, 0, "double64", "rtseg-bench"))
    points = [msgpack.unpackb(bytes(data))["kp"] for data in frames[0]]
    samples = [np.nan_to_num(np.frombuffer(p, "<f4")).astype(float).tolist() for p in points]

    def way(_: int, seq: int) -> None:
        outlet.push_sample([float(time.monotonic_ns()), *samples[seq % len(samples)]])

    return way


def _lsl_ear() -> Callable[[], tuple[int, int] | None]:
    import pylsl

    inlet: Any = None

    def ear() -> tuple[int, int] | None:
        nonlocal inlet
        if inlet is None:
            found = pylsl.resolve_byprop("name", "rtseg-bench", 1, 20)
            if not found:
                return None
            inlet = pylsl.StreamInlet(found[0], max_buflen=1)
        sample, _ = inlet.pull_sample(timeout=SILENCE_S)
        return None if sample is None else (time.monotonic_ns() - int(sample[0]), 0)

    return ear


if __name__ == "__main__":
    roles: dict[str, Callable[..., None]] = {"send": send, "hear": hear, "peer": peer}
    roles[sys.argv[1]](**json.loads(sys.argv[2]))
