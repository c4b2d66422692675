"""What `doctor` asks Graph, in this order, and what it keeps of the answers."""

from __future__ import annotations

from typing import NamedTuple

from proxy.commands.doctor.asking import Asker, Over
from proxy.core.graph.doctor.answers import Answer, Judged, Transcript, Verdict, described, field, json_of, slots
from proxy.core.graph.errors import TOKEN_REFUSED
from proxy.core.graph.ids import is_id

_ID = {"fields": "id"}
_WORDS = {"fields": "id,category"}
_NOBODY = "err_graph_sidecar_doctor"
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
    """What is read: an object, and an edge of it or ""."""

    object: str
    edge: str


async def run(asker: Asker, wish: Targets) -> Transcript:
    """The answers to all of it, or to what came before something was in the way."""
    script = _Script(asker, wish)
    try:
        await script.run()
    except Over as over:
        script.seen.rest = Judged(Verdict.FAILED, str(over))
    return script.seen


class _Script:
    """The steps; each puts its answers into the transcript."""

    def __init__(self, asker: Asker, wish: Targets) -> None:
        self.seen = Transcript()
        self._asker = asker
        self._wish = wish
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
        told = {name.replace("_", "-"): value for name, value in fields.items()}
        answer = await self._asker.get(self._wish.object, _ID if query is None else query, told)
        self.seen.answers[step] = answer
        return answer

    async def _etags(self) -> None:
        """Direct reads: again, with the ETag, as a browser."""
        first = await self._get("first")
        _check(first)
        await self._get("again")
        if etag := first.header("etag"):
            await self._get("conditional", If_None_Match=etag)
        else:
            self._lack("conditional", Verdict.UNKNOWN, "there was no ETag to send back")
        await self._get("other_agent", User_Agent=_BROWSER)

    async def _batches(self) -> None:
        """The same read in a slot, beside the edge; beside a mistake; with its ETag."""
        asker, path = self._asker, self._wish.object
        edge = [asker.operation(f"{path}/{self._wish.edge}", {**_ID, "limit": "1"}, {})] if self._wish.edge else []
        read = asker.operation(path, _ID, {})
        self.seen.answers["batch"] = found = await asker.batch([read, *edge], {})
        self.seen.answers["batch_error"] = await asker.batch([asker.operation(_NOBODY, _ID, {}), read], {})
        slot = (slots(found) or [None])[0]
        if etag := field(slot.fields, "etag") if slot else "":
            conditional = asker.operation(path, _ID, {"If-None-Match": etag})
            self.seen.answers["batch_conditional"] = await asker.batch([conditional], {})
        else:
            self._lack("batch_conditional", Verdict.UNKNOWN, "there was no ETag to send back")

    async def _edge(self) -> None:
        """Some objects of the edge, for `ids=`."""
        if not self._wish.edge:
            self._lack("edge", Verdict.SKIPPED, "needs --edge, one with a second page")
            self._lack("ids", Verdict.SKIPPED, "needs --edge, one with three objects or more")
            return
        path, query = f"{self._wish.object}/{self._wish.edge}", {**_ID, "limit": str(_TRIES_IDS)}
        self.seen.answers["edge"] = answer = await self._asker.get(path, query, {})
        found = json_of(answer.body)
        if answer.status != 200 or not isinstance(found, dict) or not isinstance(found.get("data"), list):
            self._lack("ids", Verdict.FAILED, f"the edge cannot be read ({described(answer)})")
            return
        told = [str(each["id"]) for each in found["data"] if isinstance(each, dict) and "id" in each]
        self._ids = list(dict.fromkeys(each for each in told if is_id(each)))[:_TRIES_IDS]
        if len(self._ids) < _LEAST_IDS:
            self._lack("ids", Verdict.UNKNOWN, "the edge holds too few objects")

    async def _counting(self) -> None:
        """Three plain reads that tell what one comes to; then 304s, a batch and `ids=`, a plain read after each."""
        for number in range(3):
            await self._get(f"plain_{number}")
        etag = self.seen["first"].header("etag")
        for number in range(_TRIES_304 if etag else 0):
            await self._get(f"304_{number}", If_None_Match=etag)
        if not etag:
            self._lack("304_0", Verdict.UNKNOWN, "there was no ETag to send back")
        await self._get("after_304")
        operations = [self._asker.operation(self._wish.object, _ID, {})] * _TRIES_SLOTS
        self.seen.answers["counted_batch"] = await self._asker.batch(operations, {})
        await self._get("after_batch")
        if len(self._ids) >= _LEAST_IDS:
            query = {**_ID, "ids": ",".join(self._ids)}
            self.seen.answers["ids"] = await self._asker.get("", query, {}, costs=len(self._ids))
            await self._get("after_ids")

    async def _language(self) -> None:
        """An object with a category, in English, and in German in each of the ways to ask for it."""
        english = await self._get("english", _WORDS, Accept_Language="en-US")
        if english.status != 200:
            for step in ("german", "german_locale"):
                self._lack(step, Verdict.UNKNOWN, "the object has no category; a Page has one")
            return
        german = {"Accept-Language": "de-DE"}
        await self._get("german", _WORDS, Accept_Language="de-DE")
        await self._get("german_locale", {**_WORDS, "locale": "de_DE"})
        plain, own = (self._asker.operation(self._wish.object, _WORDS, fields) for fields in ({}, german))
        self.seen.answers["language_outer"] = await self._asker.batch([plain], german)
        self.seen.answers["language_own"] = await self._asker.batch([own], {})

    async def _proof(self) -> None:
        """A read without a proof; then in one batch a slot without a token, and one whose token has no proof."""
        caller, path = self._asker.caller, self._wish.object
        if not caller.secret:
            self._lack("unproved", Verdict.SKIPPED, "needs the app's secret: --secret-file")
            return
        self.seen.answers["unproved"] = answer = await self._asker.get(path, _ID, {}, proof=False)
        if answer.status != 200:
            bare = {"method": "GET", "relative_url": f"{path}?fields=id"}
            own = {"method": "GET", "relative_url": f"{path}?fields=id&access_token={caller.token}"}
            self.seen.answers["batch_proof"] = await self._asker.batch([bare, own], {})

    async def _limit(self) -> None:
        """51 operations; all but the first depend on it, which fails: if they are taken, they are not performed."""
        first = {**self._asker.operation(_NOBODY, _ID, {}), "name": "first"}
        rest = {**self._asker.operation(self._wish.object, _ID, {}), "depends_on": "first"}
        self.seen.answers["limit"] = await self._asker.batch([first, *[rest] * (_ONE_TOO_MANY - 1)], {}, costs=1)

    def _lack(self, step: str, verdict: Verdict, why: str) -> None:
        self.seen.missing[step] = Judged(verdict, why)


def _check(first: Answer) -> None:
    """Raise Over where the first answer makes more of them pointless."""
    error = first.error
    if not any(first.header(name) for name in _OF_GRAPH):
        raise Over(f"what answered is not Graph (status {first.status}): a proxy in between?")
    if error is not None and _PROOF_REQUIRED in (error.message or ""):
        raise Over("the app asks for appsecret_proof: give the file of the app's secret by --secret-file")
    if error is not None and error.code in TOKEN_REFUSED:
        raise Over(f"Graph refuses the token ({described(first)})")
    if first.status != 200:
        raise Over(f"Graph refuses to read the object ({described(first)})")
