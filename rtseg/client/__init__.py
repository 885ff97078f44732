"""What a laboratory's own program needs to communicate with a daemon: no model, no compiler.

connection  A connection to a daemon, and requests over it: `ask_status`, `ask_load`, `ask_arm`, `ask_disarm` ...
publisher   One stream of frames to a daemon: `Publisher`
reconnect   What a publisher does when its daemon is lost: `Reconnection`
subscriber  Predictions and events of a daemon: `Subscriber`
"""

from rtseg.client.connection import QUEUE_MESSAGES, Key, ask_arm, ask_disarm, ask_load, ask_status, ask_stop
from rtseg.client.publisher import Publisher
from rtseg.client.subscriber import Subscriber

__all__ = [
    "QUEUE_MESSAGES",
    "Key",
    "Publisher",
    "Subscriber",
    "ask_arm",
    "ask_disarm",
    "ask_load",
    "ask_status",
    "ask_stop",
]
