"""What a laboratory's own program needs to communicate with a daemon: no model, no compiler.

connection  A connection to a daemon, and requests over it: `ask_status`, `ask_load`, `ask_arm`, `ask_disarm` ...
publisher   One stream of frames to a daemon: `Publisher`
reconnect   What a publisher does when its daemon is lost: `Reconnection`
line_follower  Which lines are on by what has come, and until when: `LineFollower`, `LineChange`
subscriber  Predictions and events of a daemon: `Subscriber`
trigger_subscriber  Lines of a `zmq` sink, which go off by themselves: `TriggerSubscriber`
"""

from rtseg.client.connection import QUEUE_MESSAGES, Key, ask_arm, ask_disarm, ask_load, ask_status, ask_stop
from rtseg.client.line_follower import LineChange
from rtseg.client.publisher import Publisher
from rtseg.client.subscriber import Subscriber
from rtseg.client.trigger_subscriber import TriggerSubscriber

__all__ = [
    "QUEUE_MESSAGES",
    "Key",
    "LineChange",
    "Publisher",
    "Subscriber",
    "TriggerSubscriber",
    "ask_arm",
    "ask_disarm",
    "ask_load",
    "ask_status",
    "ask_stop",
]
