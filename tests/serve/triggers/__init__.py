"""Triggers in the daemon."""
