"""The layers that a read passes on its way to Graph, each holding the next."""
