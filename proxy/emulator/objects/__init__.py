"""The objects that the emulator holds, and how each is shown."""
