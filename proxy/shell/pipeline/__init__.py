"""The layers that a read passes from the caller to Graph; each holds the next."""
