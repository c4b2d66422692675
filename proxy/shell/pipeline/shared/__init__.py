"""The layers of a replica that shares entries, flights, changes and limits with other replicas."""
