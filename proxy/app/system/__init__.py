"""What `serve` asks of the operating system: no core dumps, little resident memory, and notices to systemd."""
