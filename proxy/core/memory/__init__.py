"""Bounds in bytes for memos and for buffered messages, and JSON that is too costly to parse."""
