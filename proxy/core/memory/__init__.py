"""Bounds in bytes for what is remembered and for what messages hold."""
