"""Decides which reads are asked as one, and cuts each caller's part out of the answer."""
