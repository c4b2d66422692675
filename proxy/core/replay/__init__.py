"""Plays a log of recorded reads again under other settings."""
