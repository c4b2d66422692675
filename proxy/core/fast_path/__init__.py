"""The fast path: reads recognised by the bytes of their heads, and replies prepared as bytes."""
