"""Calls in Meta's units: the ledger, how much of each rate limit is used, and which reads are admitted."""
