"""Answers POST, PUT and DELETE; every later read shows their effect."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import md5
from typing import Any

from proxy.emulator.graph.reads import resolve_me
from proxy.emulator.language import loose_json
from proxy.emulator.language.calls import Call
from proxy.emulator.language.errors import nonexisting_field, unknown_path, unsupported
from proxy.emulator.language.query import Params, written_values
from proxy.emulator.objects.async_jobs import AsyncJobs
from proxy.emulator.objects.async_writes import AsyncWrites
from proxy.emulator.objects.insights import ReportRuns
from proxy.emulator.objects.nodes import Nodes
from proxy.emulator.objects.object_types import OBJECT_TYPES
from proxy.emulator.objects.uploads import Uploads
from proxy.emulator.objects.world import World

_SUCCESS: dict[str, Any] = {"success": True}


class Writes:
    """Changes the world as a call asks."""

    def __init__(
        self, world: World, nodes: Nodes, report_runs: ReportRuns, async_jobs: AsyncJobs, async_writes: AsyncWrites
    ) -> None:
        """Write into *world*, *report_runs* and *async_jobs*."""
        self.sessions = Uploads()
        self._world = world
        self._nodes = nodes
        self._report_runs = report_runs
        self._async_jobs = async_jobs
        self._async_writes = async_writes

    def answer(self, call: Call) -> Any:
        """Perform and record the write that *call* asks for; Graph's answer to it."""
        path = call.path or ((str(call.params["id"]),) if call.params.get("id") else ())
        if path:
            path = (resolve_me(path[0], call), *path[1:])
        said = self._carry_out(path, call)
        files = {name: file.sha256 for name, file in call.files.items()}
        self._world.record_write(
            call.method, "/" + "/".join(path), written_values(call.params) | ({"files": files} if files else {})
        )
        return said

    def _carry_out(self, path: tuple[str, ...], call: Call) -> Any:
        if call.method == "POST" and "asyncbatch" in call.params:
            return self._async_writes.sessions(call)
        if not path:
            raise unsupported(call.method)
        node_id = path[0]
        if len(path) == 1:
            if self._async_jobs.knows(node_id):
                return self._async_writes.change(node_id, call)
            return self._delete(node_id) if call.method == "DELETE" else self._update(node_id, call)
        if len(path) == 2:
            return self._unlink(node_id, path[1]) if call.method == "DELETE" else self._create(node_id, path[1], call)
        raise unknown_path("/".join(path[2:]))

    def _update(self, node_id: str, call: Call) -> dict[str, Any]:
        self._nodes.existing(node_id, call.method)
        self._world.touch(node_id, written_values(call.params))
        return _SUCCESS

    def _delete(self, node_id: str) -> dict[str, Any]:
        self._nodes.existing(node_id, "DELETE")
        self._world.delete(node_id)
        return _SUCCESS

    def _unlink(self, node_id: str, edge: str) -> dict[str, Any]:
        self._known_edge(node_id, edge, "DELETE")
        return _SUCCESS

    def _create(self, node_id: str, edge: str, call: Call) -> dict[str, Any]:
        special = _CREATORS.get(edge)
        if special:
            return special(self, node_id, call)
        kind = self._known_edge(node_id, edge, "POST")
        several = _objects_in(call.params.get(edge))
        if several is None:
            return {"id": self._world.create(node_id, edge, OBJECT_TYPES[kind], written_values(call.params))}
        made = [{"id": self._world.create(node_id, edge, OBJECT_TYPES[kind], values)} for values in several]
        return {"data": made}

    def _known_edge(self, node_id: str, edge: str, method: str) -> str:
        kind = self._nodes.existing(node_id, method).object_type
        if edge not in kind.edges:
            raise nonexisting_field(edge, kind.name)
        return kind.edges[edge]

    def insights(self, node_id: str, call: Call) -> dict[str, Any]:
        """Start a report, as "Insights API" describes its asynchronous jobs."""
        self._known_edge(node_id, "insights", "POST")
        return {"report_run_id": self._report_runs.start(node_id, written_values(call.params))}

    def ad_set(self, node_id: str, call: Call) -> dict[str, Any]:
        """Take ads to be created later."""
        return self._async_writes.ads(self._nodes.existing(node_id, "POST"), call)

    def ad_batch(self, node_id: str, call: Call) -> dict[str, Any]:
        """Take a batch to be carried out later."""
        return self._async_writes.batch(self._nodes.existing(node_id, "POST"), call)

    def copies(self, node_id: str, call: Call) -> dict[str, Any]:
        """Copy an ad, an ad set or a campaign ("Ad Copies")."""
        kind = self._nodes.existing(node_id, "POST").object_type.name
        if kind not in _COPY_RESULTS:
            raise nonexisting_field("copies", kind)
        made, name = _COPY_RESULTS[kind]
        return {name: self._world.create(node_id, "copies", OBJECT_TYPES[made], written_values(call.params))}

    def images(self, node_id: str, call: Call) -> dict[str, Any]:
        """Keep images, each answered under the name of its file ("Ad Image")."""
        self._known_edge(node_id, "adimages", "POST")
        images = {}
        for upload in call.files.values():
            made = {"hash": md5(upload.sha256.encode(), usedforsecurity=False).hexdigest(), "name": upload.filename}
            self._world.create(node_id, "adimages", OBJECT_TYPES["AdImage"], made)
            images[upload.filename] = {"hash": made["hash"], "url": f"https://scontent.xx.fbcdn.net/{made['hash']}.png"}
        return {"images": images}

    def photos(self, node_id: str, call: Call) -> dict[str, Any]:
        """Keep a photo, which also becomes a post."""
        self._known_edge(node_id, "photos", "POST")
        photo = self._world.create(node_id, "photos", OBJECT_TYPES["Photo"], written_values(call.params))
        return {"id": photo, "post_id": f"{node_id}_{photo}"}

    def likes(self, node_id: str, _call: Call) -> dict[str, Any]:
        """Like something, as often as you please."""
        self._known_edge(node_id, "likes", "POST")
        return _SUCCESS

    def instruments(self, _node_id: str, _call: Call) -> dict[str, Any]:
        """Take the crash reports that Meta's Python SDK sends."""
        return _SUCCESS

    def uploads(self, _node_id: str, call: Call) -> dict[str, Any]:
        """Open a resumable upload ("Resumable Upload API")."""
        return self.sessions.open(call)


def _objects_in(text: Any) -> list[Params] | None:
    """The objects in `ads=[{…}]`, the form that "Batch Requests" shows for creating several."""
    if not text:
        return None
    try:
        found = loose_json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return None
    return found if isinstance(found, list) and all(isinstance(each, dict) for each in found) else None


_COPY_RESULTS = {
    "Campaign": ("Campaign", "copied_campaign_id"),
    "AdSet": ("AdSet", "copied_adset_id"),
    "Ad": ("Ad", "copied_ad_id"),
    "Page": ("Ad", "copied_ad_id"),
}
_CREATORS: dict[str, Callable[[Writes, str, Call], dict[str, Any]]] = {
    "insights": Writes.insights,
    "asyncadrequestsets": Writes.ad_set,
    "async_batch_requests": Writes.ad_batch,
    "copies": Writes.copies,
    "adimages": Writes.images,
    "photos": Writes.photos,
    "likes": Writes.likes,
    "instruments": Writes.instruments,
    "uploads": Writes.uploads,
}


def needs_no_token(call: Call) -> bool:
    """True if this write needs no token: only crash reports do not."""
    return call.method == "POST" and len(call.path) == 2 and call.path[1] == "instruments"
