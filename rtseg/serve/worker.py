"""A worker: `python -m rtseg.serve.worker JSON`, a daemon behind a front (`front`), started by it and for it only.

JSON: bundle, settings, place (`config.WorkerPlace`), log_level. Ends with its front.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
from typing import Any

from rtseg import config
from rtseg.compiled.ahead import compile_missing
from rtseg.config import ServeSettings, TriggerFile, WorkerPlace
from rtseg.errors import RtsegError
from rtseg.inference.classifier import Classifier, load
from rtseg.serve.access.client_sockets import ClientSockets
from rtseg.serve.daemon import Daemon, ended_in_order, run_daemon
from rtseg.serve.kernels import kernels_of
from rtseg.serve.loop.bundle_swap import BundleSwap
from rtseg.serve.loop.front_orders import FrontOrders
from rtseg.serve.loop.receiver import FrontSource, MessageSource
from rtseg.serve.loop.worker_bundle_swap import WorkerBundleSwap
from rtseg.serve.monitoring.monitor import Monitor
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.recording.stream_recording import StreamRecording
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.workers.front_link import FrontLink, WorkerOutlet
from rtseg.serve.workers.worker_protocol import NOT_CLOSED
from rtseg.system.log_setup import background
from rtseg.system.shutdown import ignore_stop_signals, print_line

_PR_SET_PDEATHSIG = 1


class WorkerDaemon(Daemon):
    """A daemon whose only client is its front: what it has in place of a lone daemon's parts stands here alone.

    place: which worker of which front this is.
    """

    _worker_outlet: WorkerOutlet
    _front_link: FrontLink
    _worker_bundle_swap: WorkerBundleSwap

    def __init__(self, classifier: Classifier, settings: ServeSettings, place: WorkerPlace) -> None:
        self._place = place
        super().__init__(classifier, settings)

    def ready_fields(self) -> dict[str, Any]:
        """With all that subscribers are told, for the front tells them, and the file that it records into."""
        recording = self._outlet.recording
        file = "" if recording is None else recording.status()["file"]
        return super().ready_fields() | {"served": self.served.to_fields(), "recording": file}

    def _make_sockets(self) -> ClientSockets:
        # Nobody subscribes to a worker: it publishes through its front, where ZeroMQ knows who listens to what.
        # What a front hands back of a stream may be larger than a client's message, whose size the front has checked.
        return ClientSockets(self._settings, self._context, limit_message_bytes=False)

    def _make_monitor(self) -> Monitor:
        return Monitor(self._settings, self._status_pieces, self._place.status_file)

    def _predictions_address(self) -> str:
        return self._place.predictions

    def _make_recording(self, model: ServedModel, triggers: TriggerFile | None) -> StreamRecording:
        return StreamRecording(model, self._settings, self._place)

    def _make_outlet(self, recording: StreamRecording | None) -> tuple[Outlet, FrontLink]:
        self._worker_outlet = WorkerOutlet(self._sockets.router, self._sockets.xpub, recording)
        self._front_link = FrontLink(self._place, self._worker_outlet, self._streams, self.stop)
        return self._worker_outlet, self._front_link

    def _make_bundle_swap(self) -> BundleSwap:
        self._worker_bundle_swap = WorkerBundleSwap(
            self._settings,
            self._streams,
            self._worker_outlet,
            self._stepper.step_all,
            self._keep_warm,
            self._front_link,
            self._admission.end_stream,
        )
        return self._worker_bundle_swap

    def _make_source(self) -> MessageSource:
        orders = FrontOrders(
            self._front_link,
            self._worker_outlet,
            self._streams,
            self._stepper,
            self._admission,
            self._worker_bundle_swap,
            self._dispatcher.handle_message,
            self.stop,
        )
        return FrontSource(self._sockets.router, orders.open_message, self._streams.model.bundle.skeleton.shape)


def main(text: str) -> int:
    """Serve until the front says stop or ends."""
    about = json.loads(text)
    place = WorkerPlace(**about["place"])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != place.front_pid:
        return 1  # it ended while this one began
    ignore_stop_signals()
    settings = config.from_plain(about["settings"], ServeSettings)
    logging.getLogger("rtseg").setLevel(about["log_level"])
    try:
        with background(settings.log_format, worker=place.number):
            classifier = load(about["bundle"], settings.engine, settings.slots, settings.identity, settings.heads)
            # Of workers that start together one does it, and the others wait.
            compile_missing(kernels_of(classifier.pool.engine, settings))
            with contextlib.closing(WorkerDaemon(classifier, settings, place)) as daemon:
                status = run_daemon(daemon, print_line)
    except RtsegError as error:
        print(f"rtseg worker: {error}", file=sys.stderr)
        return 3
    return 0 if ended_in_order(status) else NOT_CLOSED


if __name__ == "__main__":
    status = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # the front waits, and taking the interpreter apart takes seconds on a busy machine
