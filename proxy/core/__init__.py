"""Decides. Values in, values out: nothing here waits, reads a clock, opens anything or logs."""
