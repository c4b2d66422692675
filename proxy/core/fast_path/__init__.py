"""Reads that programs repeat: what depends on the request's head alone, and replies as bytes."""
