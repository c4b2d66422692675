"""Draws client batches: everything that Meta's pages promise and clients write, mixed by seeded dice.

`drawn(seed)` is a Case, a plain JSON value: what Graph is set to, the batches, and the steps in which they are sent.
The same seed gives the same Case on every machine. `<token:0>`, `<quoted:0>` and `<proof:0>` stand for credentials;
each play has its own, so that no play sees what an earlier one left in the cache. Not drawn, for nothing tells what
Graph would do: what names a 304; and in batches over 50, references to nothing and names that two operations bear.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

Case = dict[str, Any]
Item = dict[str, Any]
T = TypeVar("T")

LARGEST = 400
GRAPH_LIMIT = 50

NAMED_PART = {"file0": "first", "file1": "second"}
"""Files that a multipart batch carries, by the names of their parts."""

_OBJECTS = ("1", "2", "111", "20531316728", "act_1", "act_2", "me", "111_12050001", "120110001", "120310002")
_PLACES = {
    "1": ("feed", "photos", "likes", "campaigns", "accounts"),
    "111": ("feed", "posts", "comments", "ads", "adsets"),
    "20531316728": ("feed", "videos", "likes"),
    "act_1": ("campaigns", "adsets", "ads", "adcreatives", "insights"),
    "act_2": ("campaigns", "ads"),
    "me": ("feed", "accounts", "adaccounts", "friends", "likes"),
    "111_12050001": ("comments", "likes"),
    "120110001": ("adsets", "ads"),
}
_MAKES = {
    "act_1": ("campaigns", "adsets", "ads", "customaudiences"),
    "act_2": ("campaigns", "ads"),
    "me": ("feed", "comments"),
    "1": ("feed", "comments", "photos"),
    "111": ("feed", "albums"),
}
_FIELDS = ("id", "name", "created_time", "link", "message", "picture", "updated_time", "from", "status", "description")
_SHAPES = ("comments.limit(2){id,message}", "likes.limit(1).summary(true){id}", "feed.limit(2)", "campaigns.limit(1)")
_NAMES = ("c", "first", "get-feed", "My Søn & co", "a1", "x_y", "Step 2", "UPPER", "feed", "q")
_QUIET_OBJECTS = ("33", "120210077", "act_7")
"""Objects that no read looks at: with faults a read may be asked again later, when other writes have been done."""
_QUIET_PLACES = ("77/feed", "77/comments", "act_7/campaigns", "act_7/ads")
_LISTED = ("$.data.*.id", "$.data..id", "$.data[0:2].id", "$.data[*].id", "$.data[0:199:1].id")
_WITHIN = ("$.id", "$.from.id", "$..id", "$.*.id", "$.*", "$..name")
_FIRST = ("$.data.0.id", "$.data[0].id", "$.data[1].id", "$.data.1.id")


def drawn(seed: str, *, faulty: str = "") -> Case:
    """The Case of *seed*, and what trouble strikes it: none, with "reads" alone, or with "any" operation."""
    return _Drawing(random.Random(seed), faulty).case() | {"seed": seed}  # a text seeds alike on every machine


@dataclass(frozen=True)
class _Named:
    """An operation that others may name, and what it answers."""

    name: str
    kind: str
    writes: bool


@dataclass
class _Batch:
    """A batch while it is drawn."""

    size: int
    is_odd: bool  # may hold what the sidecar does not claim to understand
    items: list[Item] = field(default_factory=list)
    named: list[_Named] = field(default_factory=list)  # what may be referred to
    has_files: bool = False


class _Drawing:
    def __init__(self, dice: random.Random, faulty: str) -> None:
        self._dice = dice
        self._faulty = faulty
        self._written = 0
        self._with_writes = self._chance(0.3 if faulty == "reads" else 0.5)
        self._with_names = self._chance(0.55)
        self._with_secret = not faulty and self._chance(0.15)

    # --- the whole ---

    def case(self) -> Case:
        batches = [self._batch() for _ in range(1 if self._faulty or self._chance(0.85) else 2)]
        return {
            "config": self._config(),
            "faults": self._faults(batches[0]),
            "batches": batches,
            "steps": self._steps(batches),
        }

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"seed": self._dice.randrange(1, 5), "edge_length": self._one_of((0, 1, 3, 7, 60))}
        if self._with_secret:
            config |= {"app_secret": "hush", "require_proof": self._chance(0.5)}
        if self._chance(0.15):
            config["refused_tokens"] = ["<token:2>"]
        if self._chance(0.1):
            config["viewer_by_default"] = False
        if self._chance(0.1):
            config["dependent_failure"] = "960"
        if self._chance(0.1):
            config["batch_formatting"] = self._one_of(("compact", "pretty"))
        return config

    def _steps(self, batches: Sequence[Case]) -> list[list[Any]]:
        """A batch, perhaps what another program does, the batch again; a cold way and a warm way."""
        steps: list[list[Any]] = []
        if self._faulty == "any":
            return [["send", 0]]
        if self._chance(0.25):
            steps.append(["get", self._read_url(own=False)])
        for at, batch in enumerate(batches):
            is_pure = all(is_read(item) for item in batch["items"])
            steps.append(["crowd" if is_pure and self._chance(0.1) else "send", at])
            while self._chance(0.55 if len(steps) < 4 else 0.15):
                if self._chance(0.4):
                    steps.append(self._between())
                steps.append(["send", at])
        return steps

    def _between(self) -> list[Any]:
        if self._faulty or self._chance(0.4):
            return ["get", self._read_url(own=False)]
        if self._chance(0.2):
            return ["set", {"refused_tokens": self._one_of((["<token:0>"], ["<token:1>"], []))}]
        if self._chance(0.6):
            return ["touch", self._one_of([each for each in _OBJECTS if each != "me"])]
        return ["post", f"/v25.0/{self._made_at()}", f"name=between{self._marker()}"]

    def _faults(self, batch: Case) -> list[dict[str, Any]]:
        """Trouble for the Graph behind the sidecar alone; the other twin tells what is right."""
        if not self._faulty:
            return []
        are_reads = all(is_read(item) for item in batch["items"])
        kinds: tuple[str, ...] = ("null", "aborted", "error")
        if are_reads or self._faulty == "any":
            kinds += ("short", "long", "html", "unknown", "unavailable", "cut", "cut_middle", "lost")
            kinds += ("empty", "text", "error_in_200")
        return [self._fault(self._one_of(kinds)) for _ in range(self._one_of((1, 1, 2, 3)))]

    def _fault(self, kind: str) -> dict[str, Any]:
        fault: dict[str, Any] = {"kind": kind, "where": "batch", "count": self._one_of((1, 1, 2, 5))}
        fault["after"] = self._one_of((0, 0, 1, 2, 7)) if kind in {"null", "aborted", "error"} else 0
        if self._faulty == "reads" and kind in {"null", "aborted", "error"}:
            fault["method"] = "GET"
        if kind == "short":
            fault |= {"slots": self._one_of((1, 2)), "place": self._one_of(("head", "middle", "tail"))}
        return fault

    # --- a batch ---

    def _batch(self) -> Case:
        size = self._size()
        batch = _Batch(size, is_odd=size <= GRAPH_LIMIT and not self._faulty and self._chance(0.3))
        while len(batch.items) < size:
            batch.items.append(self._item(batch))
        if batch.is_odd and self._chance(0.06):
            self._spoil(batch)
        return {"items": batch.items, **self._call(batch)}

    def _size(self) -> int:
        drawn = self._dice.random()
        if drawn < 0.70:
            return self._dice.randint(1, 8)
        if drawn < 0.92:
            return self._dice.randint(9, 25)
        return self._dice.randint(26, 50) if drawn < 0.98 else self._dice.randint(51, LARGEST)

    def _call(self, batch: _Batch) -> Case:
        """What the call says as a whole, and how it is written."""
        version = self._one_of(("/", "/v25.0", "/v25.0/", "/v21.0", "/v19.0/", "/me", "/111", "/v25.0/me"))
        forms = ["form", "form", "json", "json_text", "multipart", "untyped", "gzip", "loose"]
        if len(batch.items) <= 12:
            forms.append("query")
        body = "multipart" if batch.has_files else self._one_of(forms)
        call: Case = {"path": version, "body": body, "top": 0, "top_in": self._one_of(("query", "body", "header"))}
        if self._with_secret:
            call["proof"] = self._one_of(("right", "right", "right", "wrong", ""))
        if self._chance(0.2):
            call["include_headers"] = self._one_of(("false", "0", "true"))
        if self._chance(0.04):
            call["callback"] = self._one_of(("cb", "app.got", "cb[0]"))
        if self._chance(0.08):
            call["language"] = self._one_of(("da_DK", "de", "en-GB"))
        if batch.is_odd:
            call |= self._odd_call()
        return call

    def _odd_call(self) -> Case:
        """What the sidecar leaves to Graph: no token on top, a refused one, parameters that nobody knows."""
        odd: list[tuple[float, Case]] = [
            (0.05, {"top": None}),
            (0.05, {"top": 2}),
            (0.06, {"extra": {"batch_app_id": "999"}}),
            (0.04, {"extra": {"decode_body_json": "1"}}),
            (0.04, {"extra": {"pretty": "1"}}),
        ]
        return next((changes for chance, changes in odd if self._chance(chance)), {})

    def _spoil(self, batch: _Batch) -> None:
        """A reference to nothing, or to what comes later: Graph refuses the whole batch."""
        item = self._one_of(batch.items)
        later = batch.items[-1].get("name", "nobody") if item is not batch.items[-1] else "nobody"
        item["depends_on"] = self._one_of(("nobody", str(later), str(item.get("name", "nobody"))))

    # --- an operation ---

    def _item(self, batch: _Batch) -> Item:
        kinds: list[tuple[int, Callable[[_Batch], Item]]] = [(8, self._read)]
        if self._with_writes:
            kinds += [(2, self._create), (1, self._update), (1, self._delete)]
        if batch.named and self._with_names:
            kinds += [(6, self._dependent)]
        if batch.is_odd:
            kinds += [(1, self._odd_item)]
        if batch.items and self._chance(0.05):
            return {name: value for name, value in self._one_of(batch.items).items() if name != "name"}
        make = self._dice.choices([make for _, make in kinds], [weight for weight, _ in kinds])[0]
        return self._told(make(batch), batch)

    def _told(self, item: Item, batch: _Batch) -> Item:
        """The item with what may stand in any."""
        parents = self._parents(batch, writes=not is_read(item))
        kind = item.pop("~answers", "")
        if kind and self._with_names and self._chance(0.5):
            self._call_it(item, kind, batch)
        elif self._chance(0.02):
            is_safe = batch.size <= GRAPH_LIMIT and not self._faulty
            item["name"] = self._one_of((5, "", None, *(("c", "My Søn & co") if is_safe else ())))
        if parents and self._with_names and "depends_on" not in item and self._chance(0.06):
            names = [self._one_of(parents).name for _ in range(self._one_of((1, 1, 2)))]
            item["depends_on"] = names[0] if len(names) == 1 else names
        if self._chance(0.12):
            item["omit_response_on_success"] = self._one_of((False, False, True, "false", "true", 0, 1, None))
        if self._chance(0.15):
            self._conditional(item)
        return item

    def _call_it(self, item: Item, kind: str, batch: _Batch) -> None:
        name = self._one_of(_NAMES)
        if name in {each.name for each in batch.named}:
            name = f"{name}{len(batch.items)}"
        item["name"] = name
        batch.named.append(_Named(name, kind, writes=not is_read(item)))

    def _parents(self, batch: _Batch, *, writes: bool) -> list[_Named]:
        """What an operation may name; of writes that must be done, no read that trouble may strike."""
        return [each for each in batch.named if each.writes or not (writes and self._faulty)][-6:]

    def _conditional(self, item: Item) -> None:
        """Header fields of its own; `~tag` makes it conditional on the ETag that it got when it was sent before.

        What becomes of those that name a 304 is nowhere told, so none is named.
        """
        if is_read(item) and "name" not in item and self._chance(0.6):
            item["~tag"] = self._one_of(("strings", "objects", "map"))
            return
        value = self._one_of(('"0000000000000000000000000000000000000000"', '"a", "b"', '"none"'))
        name = self._one_of(("If-None-Match", "if-none-match", "Accept-Language"))
        value = "da_DK" if name == "Accept-Language" else value
        item["headers"] = self._one_of(
            ([f"{name}: {value}"], [{"name": name, "value": value}], {name: value}, [], None)
        )

    def _verb(self, verb: str) -> str:
        return self._one_of((verb, verb, verb.lower(), verb.title()))

    def _read(self, _batch: _Batch) -> Item:
        item: Item = {"method": self._verb("GET"), "relative_url": self._read_url()}
        path = item["relative_url"].partition("?")[0].strip("/").split("/")
        item["~answers"] = (
            "edge" if path[-1] in {"feed", "campaigns", "ads", "adsets", "comments", "likes"} else "object"
        )
        if "ids=" in item["relative_url"]:
            item["~answers"] = ""
        return item

    def _create(self, batch: _Batch) -> Item:
        body = f"name=w{self._marker()}&message={self._text()}{self._own_token(0.1)}"
        item: Item = {"method": self._verb("POST"), "relative_url": self._made_at(), "body": body}
        item["~answers"] = "object"
        drawn = self._dice.random()
        if drawn < 0.08:
            item["relative_url"], item["body"] = f"{item['relative_url']}?{body}", ""
        elif drawn < 0.16:
            item["relative_url"] = "act_7/ads" if self._faulty else "act_1/ads"
            item["body"] = f'ads=[{{"name":"s{self._marker()}"}},{{"name":"t"}}]'
            item["~answers"] = "edge"
        elif drawn < 0.24 and not self._faulty:
            item |= {"relative_url": "act_1/adimages", "attached_files": self._attached()}
            item["~answers"] = ""
            batch.has_files = True
        elif drawn < 0.28 and not self._faulty:
            item |= {"method": "GET", "relative_url": f"{item['relative_url']}?method=post&name=w{self._marker()}"}
            del item["body"]
        elif drawn < 0.31:
            item["relative_url"] = self._one_of(("err17/feed", "act_1/nothing", "404123/comments"))
        return item

    def _attached(self) -> Any:
        return self._one_of(("file0", "file1", "file0,file1", {"File0": "file1"}))

    def _made_at(self) -> str:
        if self._faulty:
            return self._one_of(_QUIET_PLACES)
        node = self._one_of(sorted(_MAKES))
        return f"{node}/{self._one_of(_MAKES[node])}"

    def _update(self, _batch: _Batch) -> Item:
        nodes = _QUIET_OBJECTS if self._faulty else (*_OBJECTS, "err17")
        body = f"name=u{self._marker()}&status={self._one_of(('PAUSED', 'ACTIVE'))}"
        return {"method": self._verb(self._one_of(("POST", "PUT"))), "relative_url": self._one_of(nodes), "body": body}

    def _delete(self, _batch: _Batch) -> Item:
        nodes = ("120310099", "120210098", "78") if self._faulty else (*_OBJECTS, "err17", "111/likes")
        node = self._one_of(nodes)
        if self._chance(0.3):
            return {"method": self._verb("POST"), "relative_url": f"{node}?method=delete"}
        return {"method": self._verb("DELETE"), "relative_url": node}

    def _odd_item(self, _batch: _Batch) -> Item:
        """Shapes that few clients write: each goes to Graph as it is."""
        odd: tuple[Item, ...] = (
            {"method": "GET", "relative_url": ""},
            {"method": "GET", "relative_url": "1", "body": "fields=name"},
            {"method": "GET", "relative_url": "https://graph.facebook.com/v25.0/111?fields=name"},
            {"method": "GET", "relative_url": "//111"},
            {"method": "GET", "relative_url": "111/../1"},
            {"method": "GET", "relative_url": "v99.0/111?access_token=<token:3>"},
            {"method": "GET", "relative_url": "111/feed/1/2"},
            {"method": "GET", "relative_url": "111/picture"},
            {"method": "GET", "relative_url": "111/picture?redirect=false"},
            {"method": "GET", "relative_url": "111?callback=cb&fields=name"},
            {"method": "GET", "relative_url": "111?suppress_http_code=1&fields=nothing"},
            {"method": "GET", "relative_url": "debug_token?input_token=x"},
            {"method": "GET", "relative_url": "111", "access_token": "<token:1>"},
            {"method": "GET", "relative_url": "111", "attached_files": "missing"},
            {"method": "POST", "relative_url": "act_1/ads", "body": {"name": f"o{self._marker()}"}},
            {"method": "POST", "relative_url": "act_1/adimages", "attached_files": "missing"},
            {"method": "POST", "relative_url": "111?method=get&fields=name"},
            {"method": "POST", "relative_url": "", "body": "batch=[]"},
            {"relative_url": "111"},
            {"method": "GET", "relative_url": "111", "headers": ["Range: bytes=0-1"]},
            {"method": "GET", "relative_url": "111", "headers": ["Authorization: Bearer <token:1>"]},
        )
        item = dict(self._one_of(odd))
        item.setdefault("method", "GET")
        return item

    # --- references ---

    def _dependent(self, batch: _Batch) -> Item:
        kinds: tuple[str, ...] = ("ids", "ids", "one", "one", "edge", "text", "query")
        if self._with_writes and self._parents(batch, writes=True):
            kinds += ("create", "create") if self._faulty else ("create", "create", "update", "delete")
        chosen = self._one_of(kinds)
        parents = self._parents(batch, writes=chosen in {"create", "update", "delete"})
        name, kind = (parent := self._one_of(parents)).name, parent.kind
        several = self._reference(
            name, self._one_of(_LISTED if kind == "edge" else _WITHIN[: 2 if self._faulty else None])
        )
        one = self._reference(name, self._one_of(_FIRST) if kind == "edge" else "$.id")
        other = self._reference(self._one_of(parents).name, "$.id")
        fields = self._one_of(("", "fields=name", "fields=id,from", "fields=name,id"))
        get, post = self._verb("GET"), self._verb("POST")
        match chosen:
            case "ids":
                return {"method": get, "relative_url": f"{self._before()}?ids={several}&{fields}", "~answers": ""}
            case "one":
                return {"method": get, "relative_url": f"{self._before()}{one}?{fields}", "~answers": "object"}
            case "edge":
                return {"method": get, "relative_url": f"{one}/comments?limit=2", "~answers": "edge"}
            case "text":
                return {"method": get, "relative_url": f"?ids={one},{other}&fields=name", "~answers": ""}
            case "query":
                paths = ("$.name", "$.nothing", "$.data.0.name", "$.data", "$.paging.cursors.after", "$")
                path = self._one_of(paths[: 3 if self._faulty else None])
                return {
                    "method": get,
                    "relative_url": f"111?locale={self._reference(name, path)}",
                    "~answers": "object",
                }
            case "create":
                body = f'name=d{self._marker()}&adset_id={one}&of={several}&creative={{"id":"{other}"}}'
                return {"method": post, "relative_url": self._made_at(), "body": body, "~answers": "object"}
            case "update":
                return {"method": post, "relative_url": one, "body": f"title=v{self._marker()}", "~answers": ""}
            case _:
                return {"method": self._verb("DELETE"), "relative_url": one, "~answers": ""}

    def _before(self) -> str:
        return self._one_of(("", "", "", "/", "v25.0/", "/v21.0/"))

    def _reference(self, name: str, path: str) -> str:
        raw = f"{{result={name}:{path}}}"
        if "&" in name or self._chance(0.3):
            return quote(raw, safe=self._one_of(("", "$*.", "=:")))
        return raw

    # --- relative URLs ---

    def _read_url(self, *, own: bool = True) -> str:
        kinds = ("object",) * 4 + ("edge",) * 4 + ("ids", "error")
        node = self._one_of(_OBJECTS)
        match self._one_of(kinds):
            case "edge":
                node = self._one_of(sorted(_PLACES))
                edge = self._one_of(_PLACES[node])
                path, pairs = f"{node}/{edge}", self._page(edge)
            case "ids":
                ids = self._dice.sample([each for each in _OBJECTS if each != "me"], self._dice.randint(1, 4))
                path, pairs = "", [f"ids={self._comma().join(ids)}", *self._fields()]
            case "error":
                path = self._one_of(("err17", "404123", "111/nothing", "111?fields=nothing", "err17/feed"))
                path, pairs = path.partition("?")[0], [path.partition("?")[2]] if "?" in path else []
            case _:
                path, pairs = self._spelled(node), self._fields()
        pairs += self._modifiers()
        if own and (token := self._own_token(0.15).strip("&")):
            pairs.append(token)
        self._dice.shuffle(pairs)
        slash = "/" if path and self._chance(0.15) else ""
        query = "&".join(pair for pair in pairs if pair)
        return f"{self._before()}{path}{slash}" + (f"?{query}" if query or self._chance(0.1) else "")

    def _spelled(self, node: str) -> str:
        return quote(node).replace("_", "%5F") if self._chance(0.05) else node

    def _fields(self) -> list[str]:
        if self._chance(0.35):
            return []
        names = self._dice.sample(_FIELDS, self._dice.randint(1, 4))
        if "from" not in names and self._chance(0.15):
            names.append(self._one_of(_SHAPES))
        if self._chance(0.05):
            return ['fields=["' + '","'.join(names) + '"]']
        text = self._comma().join(names)
        return [f"fields={text}"] * (2 if self._chance(0.05) else 1)

    def _comma(self) -> str:
        return self._one_of((",", ",", "%2C"))

    def _page(self, edge: str) -> list[str]:
        pairs = self._fields() if edge != "insights" and self._chance(0.4) else []
        if self._chance(0.7):
            pairs.append(f"limit={self._dice.randint(0, 6)}")
        if self._chance(0.2):
            pairs.append(self._one_of(("offset=2", "after=UVZGSVVwbGFjZTAZD", "summary=true", "after=nonsense")))
        return pairs

    def _modifiers(self) -> list[str]:
        if self._chance(0.8):
            return []
        names = ("metadata=1", "date_format=U", "locale=da_DK", "debug=all", "pretty=1", "format=json", "filter[]=a")
        return self._dice.sample(names, self._one_of((1, 1, 2)))

    def _own_token(self, chance: float) -> str:
        """A token of the operation's own: good, refused, or like a page's; with its proof, a wrong one, or none."""
        if not self._chance(chance):
            return ""
        which = self._one_of((0, 1, 1, 2, 3))
        token = f"&access_token=<{self._one_of(('token', 'quoted'))}:{which}>"
        if not self._with_secret:
            return token
        return token + self._one_of((f"&appsecret_proof=<proof:{which}>", "&appsecret_proof=0bad", ""))

    # --- dice ---

    def _marker(self) -> int:
        self._written += 1
        return self._written

    def _text(self) -> str:
        return self._one_of(("hej", "a+b", "S%C3%B8n%20%26%20co", "blå port", "100%25", "{not a reference}", "x=y"))

    def _chance(self, of: float) -> bool:
        return self._dice.random() < of

    def _one_of(self, choices: Sequence[T]) -> T:
        return self._dice.choice(choices)


def is_read(item: Item) -> bool:
    """Whether an item changes nothing."""
    return item["method"].upper() == "GET" and "method=" not in item["relative_url"].lower()


def is_plain(item: Item) -> bool:
    """Whether an item is a read that needs no other."""
    return is_read(item) and "result" not in item["relative_url"] and "depends_on" not in item
