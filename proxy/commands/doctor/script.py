"""The script of `doctor`: the calls in their order, and the transcript of the answers."""

from __future__ import annotations

from typing import NamedTuple

from proxy.commands.doctor.graph_client import GraphClient, Stopped
from proxy.core.graph.doctor.answers import Answer, Judged, Transcript, Verdict, described, field, json_of, slots
from proxy.core.graph.errors import TOKEN_REFUSED
from proxy.core.graph.ids import is_id

_ID = {"fields": "id"}
_WORDS = {"fields": "id,category"}
_NO_OBJECT = "err_graph_sidecar_doctor"
"""The name of an object that does not exist."""

_BROWSER = "Mozilla/5.0 (graph-sidecar doctor)"
_ONE_TOO_MANY = 51
_TRIES_304 = 4
_TRIES_SLOTS = 5
_TRIES_IDS = 4
_LEAST_IDS = 3
_OF_GRAPH = ("facebook-api-version", "x-fb-trace-id", "x-fb-request-id", "x-fb-debug", "x-fb-rev")
_PROOF_REQUIRED = "requires an appsecret_proof"


class Targets(NamedTuple):
    """The object that is read, and one of its edges, "" for none."""

    object: str
    edge: str


async def run(client: GraphClient, targets: Targets) -> Transcript:
    """Returns the answers to all calls, or to those before the first that was refused."""
    script = _Script(client, targets)
    try:
        await script.run()
    except Stopped as stopped:
        script.seen.rest = Judged(Verdict.FAILED, str(stopped))
    return script.seen


class _Script:
    """The steps of the script; each puts its answers into the transcript."""

    def __init__(self, client: GraphClient, targets: Targets) -> None:
        self.seen = Transcript()
        self._client = client
        self._targets = targets
        self._ids: list[str] = []

    async def run(self) -> None:
        await self._etags()
        await self._batches()
        await self._edge()
        await self._counting()
        await self._language()
        await self._proof()
        await self._limit()

    async def _get(self, step: str, query: dict[str, str] | None = None, **fields: str) -> Answer:
        by_name = {name.replace("_", "-"): value for name, value in fields.items()}
        answer = await self._client.get(self._targets.object, _ID if query is None else query, by_name)
        self.seen.answers[step] = answer
        return answer

    async def _etags(self) -> None:
        """Direct reads: the same again, with the ETag, and with a browser's User-Agent."""
        first = await self._get("first")
        _check(first)
        await self._get("again")
        if etag := first.header("etag"):
            await self._get("conditional", If_None_Match=etag)
        else:
            self._set_missing("conditional", Verdict.UNKNOWN, "there was no ETag to send")
        await self._get("other_agent", User_Agent=_BROWSER)

    async def _batches(self) -> None:
        """The same read in batches: beside the edge, beside an operation that fails, and with its ETag."""
        client, path = self._client, self._targets.object
        edge = (
            [client.operation(f"{path}/{self._targets.edge}", {**_ID, "limit": "1"}, {})] if self._targets.edge else []
        )
        read = client.operation(path, _ID, {})
        self.seen.answers["batch"] = found = await client.batch([read, *edge], {})
        self.seen.answers["batch_error"] = await client.batch([client.operation(_NO_OBJECT, _ID, {}), read], {})
        slot = (slots(found) or [None])[0]
        if etag := field(slot.fields, "etag") if slot else "":
            conditional = client.operation(path, _ID, {"If-None-Match": etag})
            self.seen.answers["batch_conditional"] = await client.batch([conditional], {})
        else:
            self._set_missing("batch_conditional", Verdict.UNKNOWN, "there was no ETag to send")

    async def _edge(self) -> None:
        """Reads some objects of the edge, for `ids=`."""
        if not self._targets.edge:
            self._set_missing("edge", Verdict.SKIPPED, "needs --edge, one with a second page")
            self._set_missing("ids", Verdict.SKIPPED, "needs --edge, one with three objects or more")
            return
        path, query = f"{self._targets.object}/{self._targets.edge}", {**_ID, "limit": str(_TRIES_IDS)}
        self.seen.answers["edge"] = answer = await self._client.get(path, query, {})
        found = json_of(answer.body)
        if answer.status != 200 or not isinstance(found, dict) or not isinstance(found.get("data"), list):
            self._set_missing("ids", Verdict.FAILED, f"the edge cannot be read ({described(answer)})")
            return
        listed = [str(each["id"]) for each in found["data"] if isinstance(each, dict) and "id" in each]
        self._ids = list(dict.fromkeys(each for each in listed if is_id(each)))[:_TRIES_IDS]
        if len(self._ids) < _LEAST_IDS:
            self._set_missing("ids", Verdict.UNKNOWN, "the edge holds too few objects")

    async def _counting(self) -> None:
        """Three plain reads, which show what one costs; then 304s, a batch and `ids=`, a plain read after each."""
        for number in range(3):
            await self._get(f"plain_{number}")
        etag = self.seen["first"].header("etag")
        for number in range(_TRIES_304 if etag else 0):
            await self._get(f"304_{number}", If_None_Match=etag)
        if not etag:
            self._set_missing("304_0", Verdict.UNKNOWN, "there was no ETag to send")
        await self._get("after_304")
        operations = [self._client.operation(self._targets.object, _ID, {})] * _TRIES_SLOTS
        self.seen.answers["counted_batch"] = await self._client.batch(operations, {})
        await self._get("after_batch")
        if len(self._ids) >= _LEAST_IDS:
            query = {**_ID, "ids": ",".join(self._ids)}
            self.seen.answers["ids"] = await self._client.get("", query, {}, costs=len(self._ids))
            await self._get("after_ids")

    async def _language(self) -> None:
        """An object with a category, in English, and in German by each way to ask for a language."""
        english = await self._get("english", _WORDS, Accept_Language="en-US")
        if english.status != 200:
            for step in ("german", "german_locale"):
                self._set_missing(step, Verdict.UNKNOWN, "the object has no category; a Page has one")
            return
        german = {"Accept-Language": "de-DE"}
        await self._get("german", _WORDS, Accept_Language="de-DE")
        await self._get("german_locale", {**_WORDS, "locale": "de_DE"})
        plain, own = (self._client.operation(self._targets.object, _WORDS, fields) for fields in ({}, german))
        self.seen.answers["language_outer"] = await self._client.batch([plain], german)
        self.seen.answers["language_own"] = await self._client.batch([own], {})

    async def _proof(self) -> None:
        """A read without a proof; then in one batch a slot without a token, and one whose token has no proof."""
        token, path = self._client.token, self._targets.object
        if not token.secret:
            self._set_missing("unproved", Verdict.SKIPPED, "needs the app's secret: --secret-file")
            return
        self.seen.answers["unproved"] = answer = await self._client.get(path, _ID, {}, proof=False)
        if answer.status != 200:
            bare = {"method": "GET", "relative_url": f"{path}?fields=id"}
            own = {"method": "GET", "relative_url": f"{path}?fields=id&access_token={token.token}"}
            self.seen.answers["batch_proof"] = await self._client.batch([bare, own], {})

    async def _limit(self) -> None:
        """51 operations; all but the first depend on it, which fails: if they are taken, they are not performed."""
        first = {**self._client.operation(_NO_OBJECT, _ID, {}), "name": "first"}
        rest = {**self._client.operation(self._targets.object, _ID, {}), "depends_on": "first"}
        self.seen.answers["limit"] = await self._client.batch([first, *[rest] * (_ONE_TOO_MANY - 1)], {}, costs=1)

    def _set_missing(self, step: str, verdict: Verdict, why: str) -> None:
        self.seen.missing[step] = Judged(verdict, why)


def _check(first: Answer) -> None:
    """Raise Stopped if the first answer shows that further calls are pointless."""
    error = first.error
    if not any(first.header(name) for name in _OF_GRAPH):
        raise Stopped(f"the reply is not from Graph (status {first.status}): is there a proxy?")
    if error is not None and _PROOF_REQUIRED in (error.message or ""):
        raise Stopped("the app requires appsecret_proof: name the file of the app's secret with --secret-file")
    if error is not None and error.code in TOKEN_REFUSED:
        raise Stopped(f"Graph refuses the token ({described(first)})")
    if first.status != 200:
        raise Stopped(f"Graph refuses to read the object ({described(first)})")
