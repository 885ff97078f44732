"""What a connection with a key may do, message by message: roles, limits, and no more once its key is revoked.

The authenticator (`zap`) lets connections in; this stands in the hot loop, costs two look-ups a message, and exists
only where the daemon has keys. Who sent a message is what ZeroMQ's handshake proved, not the routing id that a
connection gave itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import zmq

from rtseg.config import ServeSettings
from rtseg.errors import ServeError
from rtseg.serve.access.connections import descriptor_of, end_connection, message_property
from rtseg.serve.access.rate_limits import RateLimits
from rtseg.serve.access.zap import Authenticator
from rtseg.wire.keys import Grant
from rtseg.wire.messages import clip_name

LOG = logging.getLogger("rtseg.serve")
ROLE_OF = {"frame": "publish", "hello": "publish", "bye": "publish", "beat": "publish", "arm": "arm", "disarm": "arm"}
"""The role that a kind of message takes; what is not named here takes `control`."""


class AccessError(ServeError):
    """A message that its sender's key does not cover."""


class Guard:
    """Checks each message between its socket and the part that handles it.

    It remembers the sender of the message in hand (`receive_message`, `identify_sender`), whom all checks are about
    until the next one comes.

    addresses: those that the daemon's sockets are bound to. ignored: messages of revoked keys that were dropped.
    """

    def __init__(self, authenticator: Authenticator, settings: ServeSettings, addresses: Iterable[str]) -> None:
        self._addresses = tuple(addresses)
        self._authenticator, self._limits = authenticator, RateLimits(settings)
        self._seen_changes = authenticator.changes
        self._sender: Grant | None = None  # of the message in hand
        self._key_of: dict[str, str] = {}  # open stream -> public half
        self._subscribers: dict[int, str] = {}  # file descriptor of a subscriber -> public half
        self.ignored = 0

    def receive_message(self, router: zmq.Socket[bytes]) -> list[bytes] | None:
        """Take the next message and remember whose it is; its parts, None where its key is revoked."""
        frames = router.recv_multipart(copy=False)
        if not self.identify_sender(message_property(frames[-1], "User-Id"), descriptor_of(frames[-1])):
            return None
        return [frame.bytes for frame in frames]

    def identify_sender(self, key: str, descriptor: int | None) -> bool:
        """Remember whose the message in hand is; False where its key is revoked, and its connection ended.

        key: public half, as ZeroMQ gives it. descriptor: of the connection's socket, None where that is gone.
        """
        self._sender = self._authenticator.grants.get(key)
        if self._sender is not None:
            return True
        self.ignored += 1
        end_connection(descriptor, self._addresses)
        return False

    def allows_frame(self, stream: str, now_ns: int) -> bool:
        """Whether the sender may send a frame of this stream now. False for one whose reason `check_message` gives."""
        try:
            self.check_message("frame", stream, now_ns)
        except ServeError:
            return False
        return True

    def check_message(self, kind: str, stream: object, now_ns: int) -> None:
        """Raises AccessError where the sender's key doesn't cover a message of this kind, LimitError beyond a limit."""
        grant = self._sender
        assert grant is not None  # `receive_message` let it pass
        role = ROLE_OF.get(kind, "control")
        if role not in grant.roles:
            raise AccessError(f"key {grant.name!r} may not send {kind}: that takes the role {role}")
        if kind == "hello":
            self._limits.count_hello(grant.public, now_ns)
            self._limits.check_new_stream(grant.public, str(stream))
        if role == "publish" and isinstance(stream, str):
            # A connection chooses its own routing id, so the id alone proves nothing.
            if self._key_of.get(stream, grant.public) != grant.public:
                raise AccessError(f"stream {clip_name(stream)!r} was opened with another key: choose another name")
            if kind == "frame" and stream in self._key_of:
                self._limits.count_frame(stream, now_ns)

    def stream_opened(self, stream: str, key: str | None = None) -> None:
        """Bind an opened stream to a key: the public half, of the message in hand where it is None."""
        key = self.sender_key() if key is None else key
        before = self._key_of.get(stream)  # another key where a stream was taken over
        if before not in (None, key):
            self.stream_closed(stream)
        self._key_of[stream] = key
        self._limits.stream_opened(key, stream)

    def stream_closed(self, stream: str) -> None:
        """Forget whose this stream was."""
        key = self._key_of.pop(stream, None)
        if key is not None:
            self._limits.stream_closed(key, stream)

    def sender_key(self) -> str:
        """Public half of the key of the message in hand."""
        assert self._sender is not None
        return self._sender.public

    def sender_name(self) -> str:
        """Name of the key of the message in hand."""
        return "" if self._sender is None else self._sender.name

    def may_subscribe(self, subscription: zmq.Frame) -> bool:
        """Whether the key of this subscription is still valid; where not, its connection is ended."""
        key, descriptor = message_property(subscription, "User-Id"), descriptor_of(subscription)
        if descriptor is not None:
            self._subscribers[descriptor] = key
        if key in self._authenticator.grants:
            return True
        self.ignored += 1
        end_connection(descriptor, self._addresses)
        return False

    def revoked_streams(self) -> list[str]:
        """Streams whose key has been revoked since the last call; subscribers with such a key are cut off at once."""
        if self._authenticator.changes == self._seen_changes:
            return []
        self._seen_changes = self._authenticator.changes
        for descriptor, key in list(self._subscribers.items()):
            if "subscribe" not in self._roles(key):
                end_connection(descriptor, self._addresses)
                del self._subscribers[descriptor]
        return [stream for stream, key in self._key_of.items() if "publish" not in self._roles(key)]

    def _roles(self, key: str) -> tuple[str, ...]:
        grant = self._authenticator.grants.get(key)
        return () if grant is None else grant.roles
