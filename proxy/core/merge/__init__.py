"""Decides which reads become one, and takes each caller's part from the answer."""
