"""The emulator on the wire: HTTP, its control paths, webhooks, transport faults."""
