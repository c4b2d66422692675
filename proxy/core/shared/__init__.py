"""Records that replicas exchange through a shared store, the names and seals of its values, and leases."""
