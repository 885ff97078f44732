"""Predictions, events and answers on their way out of the daemon.

outlet        everything that leaves the daemon: `Outlet`
batch_sender  predictions of a batch, packed and sent in one compiled call: `BatchSender`
"""
