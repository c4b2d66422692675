"""Decides what HTTP itself says of a message: RFC 9110, 9111, 9211 and 8586."""
