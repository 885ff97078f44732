"""What a laboratory's own program needs to speak with a daemon: no model, no compiler.

connection  A connection to a daemon
publisher   Send frames to a daemon, in a few lines
reconnect   How a publisher comes back to its daemon
subscriber  Hear a daemon's predictions and events, in a few lines
"""

from rtseg.client.connection import QUEUE_MESSAGES, Key, ask_load, ask_status, ask_stop
from rtseg.client.publisher import Publisher
from rtseg.client.subscriber import Subscriber

__all__ = ["QUEUE_MESSAGES", "Key", "Publisher", "Subscriber", "ask_load", "ask_status", "ask_stop"]
