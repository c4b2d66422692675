"""Counts, logs, traces and exposes what happens."""
