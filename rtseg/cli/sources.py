"""The commands that bring keypoints of other programs to a daemon: `rtseg source osc`, `zmq`, `lsl`, `csv`.

Each loads, builds, calls one function and prints; heavy imports happen inside.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtseg.cli.app import (
    AnimalNames,
    Fps,
    KeyFile,
    KeypointNames,
    NamesFile,
    PxPerMm,
    above_zero,
    app,
    name_map,
    print_progress,
)

if TYPE_CHECKING:
    from rtseg.recordings.naming import NameMap
    from rtseg.sources.bridge import Source
    from rtseg.sources.points import DeclaredPoints

source = typer.Typer(
    no_args_is_help=True, help="Send keypoints of another program to a daemon, until SIGINT or SIGTERM."
)
app.add_typer(source, name="source")

To = Annotated[str, typer.Option("--to", help="Frames address of the daemon.")]
Stream = Annotated[str, typer.Option(help="Name of the stream, such as the camera's.")]
CameraFps = Annotated[float, typer.Option("--fps", help="Frames per second of the camera.", callback=above_zero)]
Points = Annotated[
    str, typer.Option("--points", help="Names of the points, in the order of their values.", metavar="NAME,NAME,...")
]
Animals = Annotated[
    str, typer.Option("--animals", help="Names of the animals, in the order of their values.", metavar="NAME,NAME,...")
]
Likelihood = Annotated[
    bool, typer.Option("--likelihood/--no-likelihood", help="Three values a point (x, y, likelihood), or two (x, y).")
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", help="Stop after so many seconds of silence.", callback=above_zero)
]
DAEMON = "tcp://127.0.0.1:5757"


@source.command()
def osc(
    points: Points,
    fps: CameraFps,
    stream: Stream = "osc",
    animals: Animals = "animal",
    likelihood: Likelihood = True,
    listen: Annotated[str, typer.Option("--listen", help="UDP address; this machine alone.")] = "127.0.0.1:5760",
    path: Annotated[str, typer.Option("--path", help="OSC address of the poses.")] = "/pose",
    to: To = DAEMON,
    timeout: Timeout = None,
    px_per_mm: PxPerMm = None,
    key: KeyFile = None,
) -> None:
    """OSC messages, one a frame: the values, or the frame's number and the values."""
    from rtseg.sources.osc import OscSource

    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise typer.BadParameter(f"--listen: expected HOST:PORT, got {listen!r}")
    found = OscSource(host, int(port), _declared(points, animals, likelihood), address=path)
    print_progress(f"listening for OSC at {host}:{found.port}{path}")
    _send(found, to, stream, fps, key, px_per_mm, timeout)


@source.command("zmq")
def zmq_(
    points: Points,
    fps: CameraFps,
    form: Annotated[str, typer.Option("--format", help="float32 or json.")] = "float32",
    stream: Stream = "zmq",
    animals: Animals = "animal",
    likelihood: Likelihood = True,
    listen: Annotated[
        str, typer.Option("--listen", help="Address to bind; this machine alone.")
    ] = "tcp://127.0.0.1:5761",
    connect: Annotated[str, typer.Option("--connect", help="Instead: the address of a sender that binds.")] = "",
    socket: Annotated[str, typer.Option("--socket", help="pull (from PUSH) or sub (from PUB).")] = "pull",
    topic: Annotated[str, typer.Option("--topic", help="Of --socket sub; none = all.")] = "",
    answers: Annotated[
        str, typer.Option("--answers", help="Publish the answers here, in the same format; this machine alone.")
    ] = "",
    to: To = DAEMON,
    timeout: Timeout = None,
    px_per_mm: PxPerMm = None,
    key: KeyFile = None,
) -> None:
    """ZeroMQ messages of float32 values or of JSON, one a frame."""
    from rtseg.sources.zeromq import ZmqSource

    where, declared = connect or listen, _declared(points, animals, likelihood)
    found = ZmqSource(where, declared, form=form, socket=socket, bind=not connect, topic=topic)
    print_progress(f"{'connected to' if connect else 'listening at'} {found.address} for {form}")
    _send(found, to, stream, fps, key, px_per_mm, timeout, answers=answers, form=form)


@source.command()
def lsl(
    name: Annotated[str, typer.Option("--name", help="Name of the LSL stream.")] = "",
    type_: Annotated[str, typer.Option("--type", help="Its type.")] = "",
    source_id: Annotated[str, typer.Option("--source-id", help="Its source id.")] = "",
    fps: Fps = None,
    wait: Annotated[float, typer.Option(help="Look for it so many seconds.", callback=above_zero)] = 10.0,
    stream: Stream = "lsl",
    keypoint: KeypointNames = None,
    animal: AnimalNames = None,
    names: NamesFile = None,
    to: To = DAEMON,
    timeout: Timeout = None,
    px_per_mm: PxPerMm = None,
    key: KeyFile = None,
) -> None:
    """An LSL stream with a channel a coordinate, labelled nose_x, nose_y, nose_likelihood."""
    from rtseg.sources.lsl import LslSource, lsl_predicate

    renamed = _renamed(name_map(names, keypoint, animal))
    found = LslSource(lsl_predicate(name, type_, source_id), fps=fps, wait_s=wait)
    if found.left_out:
        print_progress(f"channels that are no point's are left out: {', '.join(found.left_out)}")
    _send(found, to, stream, found.fps, key, px_per_mm, timeout, renamed)


@source.command("csv")
def csv_(
    file: Annotated[Path, typer.Argument(help="The CSV; it need not be there yet.", show_default=False)],
    fps: CameraFps,
    stream: Stream = "",
    from_end: Annotated[bool, typer.Option("--from-end", help="Leave out the rows that are there already.")] = False,
    animals: Annotated[str, typer.Option(help="Of SLEAP's CSV: the tracks that take part.", metavar="NAME,...")] = "",
    keypoint: KeypointNames = None,
    animal: AnimalNames = None,
    names: NamesFile = None,
    to: To = DAEMON,
    timeout: Timeout = None,
    px_per_mm: PxPerMm = None,
    key: KeyFile = None,
) -> None:
    """A CSV that a tracker is writing: DeepLabCut's, SLEAP's or a plain one."""
    from rtseg.sources.growing_csv import GrowingCsv

    named, tracks = name_map(names, keypoint, animal), tuple(name for name in animals.split(",") if name)
    found = GrowingCsv(file, fps=fps, animals=tracks, names=named, from_end=from_end)
    _send(found, to, stream or file.stem, fps, key, px_per_mm, timeout)


def _declared(points: str, animals: str, likelihood: bool) -> DeclaredPoints:
    from rtseg.sources.points import DeclaredPoints

    return DeclaredPoints(animals.split(","), points.split(","), has_likelihood=likelihood)


def _renamed(names: NameMap) -> dict[str, str]:
    """As a hello has them. An animal alone would choose among those of a file; a stream sends all that it has."""
    if names.chosen:
        raise typer.BadParameter(f"--animal: expected SOURCE=MODEL, got {', '.join(names.chosen)}")
    return {**names.keypoints, **names.animals}


def _send(
    found: Source,
    to: str,
    stream: str,
    fps: float,
    key: Path | None,
    px_per_mm: float | None,
    timeout: float | None,
    names: dict[str, str] | None = None,
    answers: str = "",
    form: str = "",
) -> None:
    """Send the source's frames until a signal or its silence ends it, and print what was counted.

    answers: where they are published in this form; "" = nowhere.
    """
    from contextlib import ExitStack

    from rtseg.client import Publisher, Subscriber
    from rtseg.sources.answers import AnswerRelay
    from rtseg.sources.bridge import Bridge
    from rtseg.system.shutdown import stopped_by_signals

    with ExitStack() as opened:
        opened.callback(found.close)
        publisher = opened.enter_context(
            Publisher(to, stream, found.skeleton, fps, clock=found.clock, names=names, key=key, px_per_mm=px_per_mm)
        )
        a, k = found.skeleton.shape
        print_progress(f"stream {stream!r}: {a} x {k} points at {fps:g} frames per second to {to}")
        if answers:
            subscriber = opened.enter_context(Subscriber(publisher.served.predictions, stream, key=key))
            relay = opened.enter_context(AnswerRelay(subscriber, stream, answers, form))
            print_progress(f"answers at {relay.address} as {form}")
        bridge = Bridge(found, publisher, fps)
        with stopped_by_signals(bridge):
            counts = bridge.run(timeout)
    typer.echo(counts.summary())
