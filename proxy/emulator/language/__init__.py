"""Parses and writes messages to and from Graph: queries, batches, errors, JSON."""
