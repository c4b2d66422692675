"""Transparent mode: CONNECT, TLS, tunnels and the certificates that stand for Graph."""
