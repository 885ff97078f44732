"""The processes around the daemon while it is timed: one sends, one receives, one is a bare echo in the daemon's place.

`python -m rtseg.bench.wire_process echo|send|hear JSON`: prints lines `word {json}` as it gets on, the last one `done`.
Times are CLOCK_MONOTONIC, which all processes of a machine share. A turn is [side, frames of each stream]; both ends
know all turns beforehand.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import numpy as np
import zmq
from numpy.typing import NDArray

from rtseg.bench.processes import bound_address, open_socket, say
from rtseg.bench.walk import N_FRAMES, walk
from rtseg.bundle.bundle import load_bundle
from rtseg.client import Publisher, Subscriber
from rtseg.wire.messages import VERSION, PredictionMessage, frame_message

SILENCE_S = 3.0
"""A turn's messages that have not come after this long without any are lost."""
PAUSE_S = 0.05
"""Between turns."""

F32 = NDArray[np.float32]
Send = Callable[[F32, F32, int], object]


def echo(frames: str, predictions: str, bundle: str) -> None:
    """Receive, unpack, pack, publish: the daemon's sockets and messages of its sizes, and nothing in between."""
    served = load_bundle(bundle)
    answer: dict[str, Any] = {"v": VERSION, "stream": "", "seq": 0, "t_source_ns": 0, "t_recv_ns": 0, "t_pub_ns": 0}
    # The values do not matter, only that the message is about as large as the daemon's.
    answer["probs"] = {head.name: bytes(4 * len(head.classes)) for head in served.heads}
    answer["label"] = {head.name: head.classes[0] for head in served.heads}
    answer |= {"event": {}, "quality": 0, "model": served.hash}
    with zmq.Context() as context, open_socket(context, zmq.ROUTER) as router, open_socket(context, zmq.XPUB) as xpub:
        router.bind(frames)
        xpub.bind(predictions)
        say("ready", {"frames": bound_address(router), "predictions": bound_address(xpub)})
        xpub.recv()  # the subscription of the process `hear`
        say("subscribed", {})
        packer = msgpack.Packer()
        while True:
            _, data = router.recv_multipart()
            message = msgpack.unpackb(data)
            # The sender's last message, which is no frame.
            if "kp" not in message:
                break
            for name in ("stream", "seq", "t_source_ns"):
                answer[name] = message[name]
            answer["t_recv_ns"] = answer["t_pub_ns"] = time.monotonic_ns()
            xpub.send(message["stream"].encode(), zmq.SNDMORE)
            xpub.send(packer.pack(answer))
    say("done", {})


def send(
    sides: dict[str, str], bundle: str, turns: list[tuple[str, int]], streams: dict[str, float], frames_per_s: float
) -> None:
    """Send every turn's frames at their time. streams: name -> phase, in frames: when its camera fires."""
    served = load_bundle(bundle)
    keypoints, confidence = walk(served)
    # In the order in which their cameras fire, so that one loop can send for all.
    order = sorted(streams, key=streams.__getitem__)
    publishers = [Publisher(sides["daemon"], name, served.skeleton, served.fps) for name in order]
    with zmq.Context() as context:
        dealers = [open_socket(context, zmq.DEALER) for _ in order]
        for dealer in dealers:
            dealer.connect(sides["echo"])
        ways: dict[str, list[Send]] = {
            "daemon": [_to_daemon(publisher) for publisher in publishers],
            "echo": [_to_echo(dealer, name) for dealer, name in zip(dealers, order, strict=True)],
        }
        seq, late_ns = {"daemon": 0, "echo": 0}, []
        say("ready", {})
        sys.stdin.readline()
        for side, n_frames in turns:
            start_s = time.monotonic() + PAUSE_S
            for t in range(n_frames):
                at = (seq[side] + t) % N_FRAMES
                for name, way in zip(order, ways[side], strict=True):
                    planned_s = start_s + (t + streams[name]) / frames_per_s
                    # At planned times, not after pauses: a late frame does not delay all that follow.
                    while (wait_s := planned_s - time.monotonic()) > 0:
                        time.sleep(wait_s)
                    late_ns.append(int(-wait_s * 1e9))
                    way(keypoints[at], confidence[at], seq[side] + t)
            seq[side] += n_frames
        time.sleep(PAUSE_S)
        for publisher in publishers:
            publisher.close()
        dealers[0].send(msgpack.packb({"v": VERSION, "type": "bye"}))
        for dealer in dealers:
            dealer.close(linger=1000)
    say("done", {"late_ns": late_ns})


def hear(sides: dict[str, str], turns: list[tuple[str, int]], n_streams: int) -> None:
    """Latencies in ns, from before packing to holding the answer, of every turn; and the daemon's own share."""
    with zmq.Context() as context, open_socket(context, zmq.SUB) as sub, Subscriber(sides["daemon"]) as subscriber:
        sub.subscribe(b"")
        sub.connect(sides["echo"])
        hearing = {"daemon": _from_daemon(subscriber), "echo": _from_echo(sub)}
        say("ready", {})
        latencies: list[list[int]] = []
        inside: list[list[int]] = []
        for side, n_frames in turns:
            wanted = n_frames * n_streams
            turn: list[int] = []
            shares: list[int] = []
            for t_source_ns, share_ns in hearing[side]:
                turn.append(time.monotonic_ns() - t_source_ns)
                shares.append(share_ns)
                if len(turn) == wanted:
                    break
            if len(turn) < wanted:  # a generator that has ended stays ended
                hearing[side] = _from_daemon(subscriber) if side == "daemon" else _from_echo(sub)
            latencies.append(turn)
            inside.append(shares)
    say("done", {"latency_ns": latencies, "inside_ns": inside})


def _to_daemon(publisher: Publisher) -> Send:
    return lambda points, scores, seq: publisher.send(points, scores, seq=seq, t_source_ns=time.monotonic_ns())


def _to_echo(dealer: zmq.Socket[bytes], stream: str) -> Send:
    packer = msgpack.Packer()

    def send_one(points: F32, scores: F32, seq: int) -> None:
        t_source_ns = time.monotonic_ns()
        message = frame_message(stream, seq, t_source_ns, points.tobytes(), scores.tobytes())
        dealer.send(packer.pack(message))

    return send_one


def _from_daemon(subscriber: Subscriber) -> Iterator[tuple[int, int]]:
    while (message := subscriber.receive(SILENCE_S)) is not None:
        if isinstance(message, PredictionMessage):
            yield message.t_source_ns, message.t_pub_ns - message.t_recv_ns


def _from_echo(sub: zmq.Socket[bytes]) -> Iterator[tuple[int, int]]:
    while sub.poll(int(SILENCE_S * 1000)):
        message = msgpack.unpackb(sub.recv_multipart()[1])
        yield message["t_source_ns"], 0


if __name__ == "__main__":
    roles: dict[str, Callable[..., None]] = {"echo": echo, "send": send, "hear": hear}
    roles[sys.argv[1]](**json.loads(sys.argv[2]))
