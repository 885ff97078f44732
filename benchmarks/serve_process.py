"""The processes of `benchmarks/serve.py`: a sender, a receiver, and a loop such as closed-loop tools have.

`python benchmarks/serve_process.py send|hear|peer JSON`. They print lines `word {json}` as in `wire_process`. Sender
and receiver do as little as they can in Python, so that a thousand cameras fit on one core: frames are packed in
advance and only numbers and times are filled in; of an answer only its times are read, which are at a fixed place.
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
"""A receiver that gets nothing for so long counts the rest as lost."""
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
    """Send every turn's frames on time. turns: (side, frames of each camera, frames per second)."""
    served = load_bundle(bundle)
    frames = packed_frames(served, cameras)
    phases = np.zeros(cameras) if together else np.sort(np.random.default_rng(0).random(cameras))
    seqs, late_ns = [0] * len(sides), []
    with zmq.Context() as context:
        senders = [open_sender(context, side, served, frames, cameras) for side in sides]
        say("ready", {})
        sys.stdin.readline()
        for at, n_frames, fps in turns:
            start_s, send_frame, first = time.monotonic() + PAUSE_S, senders[at], seqs[at]
            for t in range(n_frames):
                for camera in range(cameras):
                    planned_s = start_s + (t + phases[camera]) / fps
                    while (wait_s := planned_s - time.monotonic()) > 0:
                        time.sleep(wait_s)
                    late_ns.append(int(-wait_s * 1e9))
                    send_frame(camera, first + t)
            seqs[at] += n_frames
            time.sleep(BETWEEN_S)  # so that frames on their way arrive before the next turn
        late = np.percentile(late_ns, (50, 99)).tolist() if late_ns else [0, 0]
        say("done", {"late_us": [value / 1e3 for value in late]})
        sys.stdin.readline()  # the streams stay open until the receiver has all answers


def hear(sides: list[Side], turns: list[tuple[int, int, float]], cameras: int, prefix: int) -> None:
    """Report every turn's latencies in ns, and the part inside the daemon. prefix: where a prediction has its times."""
    with zmq.Context() as context:
        receivers = [_receiver(context, side, prefix) for side in sides]
        say("ready", {})
        results: list[dict[str, list[int]]] = []
        for at, n_frames, _ in turns:
            wanted, receive = n_frames * cameras, receivers[at]
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
    """A loop that runs the whole window through torch for every frame, as tools do whose network cannot be stepped."""
    import torch

    from rtseg.features.extractor import FeatureExtractor
    from rtseg.model.tcn import MultitaskTCN

    torch.set_num_threads(1)
    served = load_bundle(bundle)
    model = MultitaskTCN(served.network).eval()
    model.load_weights(served.weights)
    extractor = FeatureExtractor(served.skeleton, served.features, served.fps, served.body_size)
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


def packed_frames(served: Any, cameras: int) -> list[list[bytearray]]:
    """A few packed frames of the walk for each camera; numbers and times are filled in when they are sent."""
    keypoints, confidence = walk(served)
    few = 8 if cameras > 50 else N_FRAMES
    return [
        [
            bytearray(
                msgpack.packb(
                    # Placeholders so large that any number has room in their bytes.
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


def open_sender(
    context: zmq.Context[Any], side: Side, served: Any, frames: list[list[bytearray]], cameras: int
) -> Send:
    if side["kind"] == "lsl":
        return _lsl_sender(served, frames)
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

    def send_frame(camera: int, seq: int) -> None:
        own = frames[camera]
        data = own[seq % len(own)]
        number.pack_into(data, first, seq)
        number.pack_into(data, second, time.monotonic_ns())
        sockets[camera // CAMERAS_A_SOCKET].send(bytes(data))

    return send_frame


def _receiver(context: zmq.Context[Any], side: Side, prefix: int) -> Callable[[], tuple[int, int] | None]:
    if side["kind"] == "lsl":
        return _lsl_receiver()
    sub = open_socket(context, zmq.SUB)
    sub.subscribe(b"cage")
    sub.connect(side["predictions"])
    at_fixed_place = side["kind"] == "daemon"
    clock, milliseconds = time.monotonic_ns, int(SILENCE_S * 1000)
    sub.rcvtimeo = milliseconds

    def receive() -> tuple[int, int] | None:
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

    return receive


def _lsl_sender(served: Any, frames: list[list[bytearray]]) -> Send:
    """An outlet of keypoints and their time, without daemon and model."""
    import pylsl

    channels = 1 + 2 * served.skeleton.shape[0] * served.skeleton.shape[1]
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo("rtseg-bench", "pose", channels, 0, "double64", "rtseg-bench"))
    points = [msgpack.unpackb(bytes(data))["kp"] for data in frames[0]]
    samples = [np.nan_to_num(np.frombuffer(p, "<f4")).astype(float).tolist() for p in points]

    def send_frame(_: int, seq: int) -> None:
        outlet.push_sample([float(time.monotonic_ns()), *samples[seq % len(samples)]])

    return send_frame


def _lsl_receiver() -> Callable[[], tuple[int, int] | None]:
    import pylsl

    inlet: Any = None

    def receive() -> tuple[int, int] | None:
        nonlocal inlet
        if inlet is None:
            found = pylsl.resolve_byprop("name", "rtseg-bench", 1, 20)
            if not found:
                return None
            inlet = pylsl.StreamInlet(found[0], max_buflen=1)
        sample, _ = inlet.pull_sample(timeout=SILENCE_S)
        return None if sample is None else (time.monotonic_ns() - int(sample[0]), 0)

    return receive


if __name__ == "__main__":
    roles: dict[str, Callable[..., None]] = {"send": send, "hear": hear, "peer": peer}
    roles[sys.argv[1]](**json.loads(sys.argv[2]))
