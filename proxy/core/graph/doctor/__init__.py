"""Judges which assumptions about Graph hold today, from a few of Graph's answers."""
