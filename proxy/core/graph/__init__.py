"""Reads and writes Meta's parts of a message: errors, throttles, paging links, JSONP, webhook events."""
