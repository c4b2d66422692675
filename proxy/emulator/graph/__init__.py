"""How a call is answered: credentials, quota, reads, writes, batches, faults."""
