"""Calls to Graph: connections, whole responses, fair shares of connections, and streamed messages."""
