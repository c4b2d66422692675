"""The way to Graph: connections, calls, and messages that are streamed through."""
