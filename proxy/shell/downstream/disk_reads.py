"""Plain reads of which only the disk may hold an entry: it is loaded first, with others of the same turn of the loop.

Then Graph is asked with the entry's validator, as for an entry in memory. No task waits for the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from proxy.core.model import Entry

if TYPE_CHECKING:  # it imports this module
    from proxy.shell.downstream.fast_flights import FastFlight

Fetch = Callable[[bytes, str, Callable[[Entry | None], None]], None]
"""Loads the entry of a key under a token, and hands it over in a later turn of the loop."""


def load_entry(flight: FastFlight, fetch: Fetch) -> None:
    """Load the entry of the read that *flight* is for by *fetch*, and then ask Graph; until then others may join it."""
    credential = flight.read.request.credential
    fetch(flight.read.key, credential.token if credential else "", partial(_on_loaded, flight))


def _on_loaded(flight: FastFlight, entry: Entry | None) -> None:
    flights = flight.flights
    if flight.is_over:  # all callers have left
        return
    try:
        if flight.era != flights.era or not flights.may_ask(entry) or not _is_asked(flight, entry):
            flights.ask_layers(flight)
    except Exception as fault:  # noqa: BLE001 - told, and the callers get their answers all the same
        flights.settle(flight, fault)


def _is_asked(flight: FastFlight, entry: Entry | None) -> bool:
    """Ask Graph with the validator of *entry*; return whether *flight* waits for a batch now.

    It does not where the policy does not ask Graph, and where too many reads wait.
    """
    flights, read = flight.flights, flight.read
    if entry is not None:
        flights.cache.note_loaded(read.request, read.key, read.fingerprint)
    if not read.asks_always:
        prepared = flights.cache.forward_loaded(read.request, read.key, entry)
        if prepared is None:
            return False
        entry = prepared[1]
    flight.since = flights.reader.clock()
    flights.prepare(read, entry, flight.since)
    flight.entry, flight.asked = entry, flights.now()
    flight.request, flight.part = read.asked or read.request, read.part
    return flights.enqueue(flight)
