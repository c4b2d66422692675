"""Takes each message of a caller to where it is answered: a read, a client batch or a passthrough."""
