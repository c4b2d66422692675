"""Decides which replies are stored, under which key, for how long they are fresh, and what invalidates them."""
