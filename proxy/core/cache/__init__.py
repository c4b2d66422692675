"""Decides what is kept, under which key, how long a kept reply is fresh, and what ends that."""
