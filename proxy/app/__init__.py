"""Builds the sidecar from its settings, and starts, reloads and ends it. Here alone anything is constructed."""
