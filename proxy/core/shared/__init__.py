"""What replicas tell each other through a shared store: names, sealed bytes, and the rules they are read by."""
