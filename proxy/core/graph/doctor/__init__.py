"""What of Graph's contract holds today, judged from a few of Graph's answers."""
