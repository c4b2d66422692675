"""Reads batches that an application sends itself, and writes their replies."""
