"""Plain reads of a replica that shares entries, flights and the log of changes with other replicas."""
