"""Decides which read a request is, of which host, and which rule of the settings holds for it."""
