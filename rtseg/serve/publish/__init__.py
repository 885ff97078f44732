"""Answers and events on their way to subscribers.

batch_sender  Answers on their way out
outlet        Everything that leaves the daemon
"""
