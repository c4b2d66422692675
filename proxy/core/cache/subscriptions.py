"""Extends the freshness of objects whose changes Meta's webhooks report."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from proxy.core.cache.generation import Generation
from proxy.core.graph.webhooks import Event
from proxy.core.memory.memo import Memo
from proxy.core.model import Request
from proxy.core.routing.fields_param import field_names, fields_in
from proxy.core.routing.rules import Rule


class Subscriptions:
    """The objects and fields that Meta's webhooks are known to report, so that their entries may be fresh for longer.

    An object counts from its first event on; a field counts for every object of the kind that an event named it for.
    Only reads that a rule calls fresh at all are extended: those of such fields alone, or of an edge of that name.
    """

    OBJECTS = 10_000
    FIELDS = 256

    def __init__(self, extend_s: float, generation: Generation | None = None) -> None:
        """Extend the freshness of subscribed reads to *extend_s* seconds; 0: never. Events advance *generation*."""
        self._generation = generation or Generation()
        self._kinds: OrderedDict[str, str] = OrderedDict()
        self._fields: dict[str, set[str]] = {}
        self._extended = Memo(lambda rule: replace(rule, fresh_s=max(rule.fresh_s, extend_s)))
        self._is_on = extend_s > 0

    def on_event(self, event: Event) -> None:
        """Record *event*, which Meta sent."""
        self._generation.advance()
        for node in {event.node, *(other for other in event.others if other == f"act_{event.node}")}:
            self._kinds[node] = event.kind
            self._kinds.move_to_end(node)
        while len(self._kinds) > self.OBJECTS:
            self._kinds.popitem(last=False)
        known = self._fields.setdefault(event.kind, set()) if len(self._fields) < self.FIELDS else set()
        known.update(event.fields[: max(0, self.FIELDS - len(known))])

    def extend(self, rule: Rule, request: Request) -> Rule:
        """Returns *rule*, with its freshness extended if webhooks report what *request* reads."""
        return self._extended(rule) if self._is_on and rule.fresh_s > 0 and self._covers(request) else rule

    def _covers(self, request: Request) -> bool:
        node, _, edge = request.path[1:].partition("/")
        known = self._fields.get(self._kinds.get(node, ""))
        if not known:
            return False
        if edge:
            return edge in known
        asked = set(field_names(fields_in(request.query))) - {"id"}
        return bool(asked) and asked <= known
