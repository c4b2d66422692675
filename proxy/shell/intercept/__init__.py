"""Transparent mode: CONNECT, TLS termination, tunnels, and certificates for Graph's hosts."""
