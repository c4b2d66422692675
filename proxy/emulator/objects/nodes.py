"""Objects and edges as JSON: the asked fields in the asked order, nested as deep as asked.

developers.facebook.com, "Field Expansion" and "Paginated Results".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.emulator.language.errors import missing_object, nonexisting_field
from proxy.emulator.language.fields import Field, parse_fields
from proxy.emulator.language.query import Params
from proxy.emulator.objects import insights
from proxy.emulator.objects.async_views import AsyncViews
from proxy.emulator.objects.paging import page_of, paging
from proxy.emulator.objects.values import FIELD_MAKERS, Ref, View, default_fields, is_empty_field, listed_fields
from proxy.emulator.objects.world import Node, World

Fields = tuple[Field, ...] | None


class Nodes:
    """Turns objects of the world into JSON for a view."""

    def __init__(
        self, world: World, report_runs: insights.ReportRuns, async_views: AsyncViews, clock: Callable[[], float]
    ) -> None:
        """Read from *world*, *report_runs* and *async_views*."""
        self._world = world
        self._report_runs = report_runs
        self._async_views = async_views
        self._clock = clock

    def object(self, node_id: str, fields: Fields, view: View) -> dict[str, Any]:
        """Returns the object with this id; raises if there is none."""
        job = self._report_runs.poll(node_id)
        if job is not None:
            return _run_view(job, fields)
        waiting = self._async_views.object(node_id, fields, view)
        return self._selected(self.existing(node_id), fields, view) if waiting is None else waiting

    def existing(self, node_id: str, method: str = "GET") -> Node:
        """Returns the node with this id; raises if there is none."""
        node = self._world.node(node_id)
        if node is None:
            raise missing_object(method, node_id)
        return node

    def edge(self, node_id: str, edge: str, params: Params, fields: Fields, view: View) -> dict[str, Any]:
        """A page of what the edge holds."""
        node = self.existing(node_id)
        rows = self._async_views.rows(node, edge, params, fields, view)
        if rows is not None:
            return _paged(rows, f"{node_id}/{edge}", params, view)
        if edge not in node.object_type.edges:
            raise nonexisting_field(edge, node.object_type.name)
        if node.object_type.edges[edge] == "Insights":
            return self._report(node_id, params, fields, view)
        page = page_of(params, self._world.places(node_id, edge), view)
        data = [
            self._listed(each, edge, fields, view) for each in self._world.members(node_id, edge, page.start, page.stop)
        ]
        found = {"data": data, "paging": paging(page, f"{node_id}/{edge}", params, view)}
        return _with_summary(found, params, lambda: self._world.total(node_id, edge))

    def _listed(self, node_id: str, edge: str, fields: Fields, view: View) -> dict[str, Any]:
        node = self.existing(node_id)
        return self._selected(node, fields or _plain(listed_fields(node, edge, view.config)), view)

    def _selected(self, node: Node, fields: Fields, view: View) -> dict[str, Any]:
        """Returns the requested fields; the id comes last if it was not requested."""
        chosen = fields or _plain(default_fields(node, view.config))
        values: dict[str, Any] = {}
        for field in chosen:
            value = self._value(node, field, view)
            if value is not None:
                values[field.alias] = value
        values.setdefault("id", node.id)
        return dict(sorted(values.items(), reverse=True)) if view.config.field_order == "own" else values

    def _value(self, node: Node, field: Field, view: View) -> Any:
        name = field.name
        if name in node.written_values:
            return node.written_values[name]
        if name in FIELD_MAKERS:
            return self._expanded(FIELD_MAKERS[name](node, view), field, view)
        if name in node.object_type.edges:
            return self._nested_edge(node, field, view)
        if is_empty_field(node, name):
            return None
        raise nonexisting_field(name, node.object_type.name)

    def _expanded(self, value: Any, field: Field, view: View) -> Any:
        if not isinstance(value, Ref):
            return value
        return self._selected(self.existing(value.id), field.fields or _plain(("id", "name")), view)

    def _nested_edge(self, node: Node, field: Field, view: View) -> dict[str, Any]:
        """An edge that was asked for as a field; its links carry its own selection."""
        params: Params = {"pretty": "0"}
        if field.inner:
            params["fields"] = field.inner
        params |= {name: value for name, value in field.modifiers.items() if name != "as"}
        return self.edge(node.id, field.name, params, field.fields, view)

    def _report(self, node_id: str, params: Params, fields: Fields, view: View) -> dict[str, Any]:
        """Insights, of an object or of a finished job."""
        job = self._report_runs.finished(node_id)
        if job:
            fields = fields or parse_fields(job.params.get("fields"))
        rows = (
            insights.rows(job.parent, job.params, self._clock())
            if job
            else insights.rows(node_id, params, self._clock())
        )
        return _paged([insights.select_columns(row, fields) for row in rows], f"{node_id}/insights", params, view)


def _plain(names: tuple[str, ...]) -> tuple[Field, ...]:
    return tuple(Field(name) for name in names)


def _paged(rows: list[dict[str, Any]], path: str, params: Params, view: View) -> dict[str, Any]:
    """The page of *rows* that was asked for."""
    page = page_of(params, len(rows), view)
    found = {"data": rows[page.start : page.stop], "paging": paging(page, path, params, view)}
    return _with_summary(found, params, lambda: len(rows))


def _with_summary(found: dict[str, Any], params: Params, total: Callable[[], int]) -> dict[str, Any]:
    """Drop an empty `paging`, and add what `summary` asked for."""
    if not found["paging"]:
        del found["paging"]
    wanted = params.get("summary")
    if wanted and str(wanted).lower() not in {"0", "false"}:
        found["summary"] = {"total_count": total()}
    return found


def _run_view(job: dict[str, Any], fields: Fields) -> dict[str, Any]:
    if fields is None:
        return job
    chosen = {field.name: job[field.name] for field in fields if field.name in job}
    return {**chosen, "id": job["id"]}
