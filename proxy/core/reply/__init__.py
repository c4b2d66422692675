"""Turns the reply that the layers share into the reply that one caller gets."""
