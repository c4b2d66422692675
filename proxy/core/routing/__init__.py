"""Decides which read a request is, on which host, and which rule of the settings applies to it."""
