"""Decides when a batch of reads leaves, encodes it, and finds one outcome for each of its slots."""
