"""What messages to and from Graph look like: queries, batches, errors, JSON."""
