"""Values for logs, metrics and the dashboard; nothing in these values is secret."""
