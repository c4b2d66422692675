"""Reads and writes what is Meta's own in a message: errors, paging links, webhook events."""
