"""The wire towards callers: connections, request bodies, responses, timeouts and the drain at the end."""
