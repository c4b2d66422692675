"""The admin listener: its routes, the dashboard, the event stream, and Meta's webhooks."""
