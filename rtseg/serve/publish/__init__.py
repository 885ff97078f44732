"""Predictions, events and answers on their way out of the daemon.

outlet        everything that leaves the daemon: `Outlet`
subscribers   who listens to what, by connection, and how much of that is taken: `Subscribers`
batch_sender  predictions of a batch, packed and sent in one compiled call: `BatchSender`
"""
