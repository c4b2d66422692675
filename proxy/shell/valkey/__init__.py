"""The store that replicas share, Valkey or Redis. Nothing outside this folder imports its client."""
