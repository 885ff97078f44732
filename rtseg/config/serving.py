"""The settings of a daemon, and a worker's place behind its front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rtseg.config.checks import require

IDENTITY = ("flag", "swap", "reset")
"""What may be done about animals that a tracker has mixed up."""


@dataclass(frozen=True)
class ServeSettings:
    """The daemon.

    frames and predictions: ZeroMQ addresses (ipc:// or tcp:// on loopback). capacity: streams at once. max_batch:
    frames stepped together; what came together is published in parts of this size. idle_timeout_s: after this long
    without a frame or a sign of life a stream is closed. queue_messages: high-water mark of both sockets, of what
    leaves. max_message_bytes: larger messages are refused unread. max_growth_mb: once memory has grown by so much, a
    connection that makes it grow on by leaps is ended (0 = never).

    backlog_frames: of one stream at most this many frames wait to be stepped; beyond that they are dropped, oldest
    first, and counted. burst_s: while half of that waits, frames that come all at once are left in the socket for this
    long, and none is dropped. drain_s: when the daemon is stopped, it answers what has arrived for so long at most;
    what is left then is counted and told. max_load: a hello is refused where the daemon would be busy for more than
    this share of the time (0 = any).

    workers: processes that share the streams, each with `capacity` places. worker_snapshot_s: how often the front gets
    each stream's state, in case that its worker dies. worker_silence_s: a worker that gives no sign of life for this
    long hangs, and is replaced. engine: which one steps frames, or `auto`. identity: what happens where a tracker seems
    to have mixed up two animals: `flag` the answer, `swap` them back, or `reset` the stream; the same offline. heads:
    the only ones that are answered; nothing is computed for the others (empty = all). heartbeat_s: how often
    subscribers get a sign of life.

    cpus: cores that the daemon may use, the first one for its loop, the others for its network threads (empty = all).
    priority: real-time priority of the loop (1 to 99, SCHED_FIFO; 0 = none). busy_poll: look for frames without ever
    sleeping; takes a whole core. rehearse_us: with busy_poll, after this long without a frame the loop steps one of
    its own and forgets the answer, so that the next frame finds warm caches (0 = never).

    keys: folder of keys (`rtseg keys`); with one every connection needs a key, and the addresses may lie beyond
    loopback. For a connection with a key: max_streams_per_key, and max_frames_per_s of each of its streams (0 = no
    limit). control: whether `load` and `stop` are taken from connections that need no key. http: HOST:PORT on loopback
    for /metrics, /healthz and /readyz (none where empty; port 0 = a free one). fresh_s: the daemon is not ready while
    an open stream has had no frame for this long. log_format: `text` or `json`, a line each, on stderr.

    triggers: file of triggers that the daemon steps (none where empty; docs/triggers.md). It starts disarmed.

    record: folder for recordings, one file a run (none where empty; docs/recording.md). resume: streams that come back
    after the daemon was killed go on where the folder's last recording ends. record_buffer_mb: memory between the
    daemon and the process that writes. record_snapshot_s: how often a stream's state is recorded; a restart steps
    again the frames since then. record_sync_s: how often what is written is forced onto the disk.
    """

    frames: str = "tcp://127.0.0.1:5757"
    predictions: str = "tcp://127.0.0.1:5758"
    engine: str = "auto"
    capacity: int = 256
    max_batch: int = 16
    idle_timeout_s: float = 60.0
    queue_messages: int = 100_000
    max_message_bytes: int = 1_000_000
    max_growth_mb: int = 1000
    backlog_frames: int = 256
    burst_s: float = 2.0
    drain_s: float = 10.0
    max_load: float = 0.0
    workers: int = 1
    worker_snapshot_s: float = 2.0
    worker_silence_s: float = 10.0
    identity: str = "flag"
    heads: tuple[str, ...] = ()
    heartbeat_s: float = 1.0
    cpus: tuple[int, ...] = ()
    priority: int = 0
    busy_poll: bool = False
    rehearse_us: int = 100
    keys: str = ""
    max_streams_per_key: int = 64
    max_frames_per_s: float = 1000.0
    control: bool = True
    http: str = ""
    fresh_s: float = 2.0
    log_format: str = "text"
    triggers: str = ""
    record: str = ""
    resume: bool = False
    record_buffer_mb: int = 32
    record_snapshot_s: float = 10.0
    record_sync_s: float = 1.0

    @property
    def slots(self) -> int:
        """Slots of the engine: one more than there may be streams where the loop rehearses."""
        return self.capacity + self.rehearses

    @property
    def rehearses(self) -> bool:
        """Whether the loop steps frames of its own while it waits."""
        return self.busy_poll and self.rehearse_us > 0

    def __post_init__(self) -> None:
        for name in ("capacity", "max_batch", "idle_timeout_s", "queue_messages", "max_message_bytes"):
            require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        for name in ("backlog_frames", "heartbeat_s", "workers", "worker_snapshot_s"):
            require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        require(
            self.worker_silence_s >= 1,
            f"worker_silence_s must be 1 or more (signs of life come five a second), got {self.worker_silence_s}",
        )
        for name in ("max_load", "burst_s", "drain_s", "rehearse_us", "max_growth_mb"):
            require(getattr(self, name) >= 0, f"{name} must be 0 or more, got {getattr(self, name)}")
        require(self.identity in IDENTITY, f"identity must be one of {', '.join(IDENTITY)}; got {self.identity!r}")
        require(0 <= self.priority <= 99, f"priority must lie in 0 .. 99, got {self.priority}")
        require(all(cpu >= 0 for cpu in self.cpus), f"cpus must be numbers of cores, got {list(self.cpus)}")
        for name in ("max_streams_per_key", "fresh_s"):
            require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        require(self.max_frames_per_s >= 0, f"max_frames_per_s must be 0 or more, got {self.max_frames_per_s}")
        require(self.log_format in ("text", "json"), f"log_format must be one of text, json; got {self.log_format!r}")
        for name in ("record_buffer_mb", "record_snapshot_s", "record_sync_s"):
            require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        require(
            not self.triggers or self.workers == 1,
            "triggers need workers = 1: a sink's line has one owner, and one core serves hundreds of cameras",
        )
        require(bool(self.record) or not self.resume, "resume needs record: the folder that holds the recordings")


@dataclass(frozen=True)
class WorkerPlace:
    """What a front tells a worker about its place.

    predictions: the address at which clients subscribe, which is the front's. snapshot_s: how often the front gets a
    stream's state. front_pid: the front's process. number: this worker's, from 0. run_id: the front's, a random name.
    is_replacement: whether this worker takes the place of one that ended. status_file: where it shares its status, "" =
    nowhere.
    """

    predictions: str
    snapshot_s: float
    front_pid: int
    number: int
    run_id: str
    is_replacement: bool
    status_file: str

    def recording_metadata(self) -> dict[str, str]:
        """What says in a recording's metadata which worker of which front wrote it."""
        return {"run": self.run_id, "worker": str(self.number)}

    def wrote(self, metadata: Mapping[str, str]) -> bool:
        """Whether a recording of these metadata was written by a worker in this very place."""
        return metadata.get("run") == self.run_id and metadata.get("worker") == str(self.number)

    def may_resume_from(self, metadata: Mapping[str, str]) -> bool:
        """Whether a recording of these metadata holds no stream of another worker of the same front."""
        # Within a run each worker resumes its own streams only; recordings of other runs are open to all.
        return metadata.get("run") != self.run_id or self.wrote(metadata)
