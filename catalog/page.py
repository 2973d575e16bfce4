"""The catalog as one HTML page. Whatever stands in an entry is text, and stays text."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from catalog.contents import Contents
from catalog.entries import Entry, entry_key
from catalog.opening import opening_lines

UNKNOWN_URL: Final = "WORKSPACE"
"""Stands in the lines to copy until the page knows where it is opened from."""


@dataclass(frozen=True)
class Mosaic:
    """Previews of a dataset."""

    data: bytes
    """A JPEG."""
    count: int
    """Images shown in it."""


def shown_caches(contents: Contents) -> list[Entry]:
    """Return the caches that have a card: of each name the latest, and where its aliases stand."""
    latest = {entry.key for entry in contents.entries}
    aliased = {
        entry_key(mark.type, mark.name, mark.version)
        for marks in contents.aliases.values()
        for mark in marks.values()
    }
    shown = [entry for entry in contents.versions if entry.key in latest | aliased]
    shown.sort(key=lambda entry: (entry.name, entry.key not in latest, -entry.version))
    return [entry for entry in shown if entry.type == "cache"]


def render_page(contents: Contents, mosaics: Mapping[str, Mosaic], url: str | None) -> str:
    """Return the page.

    Parameters
    ----------
    contents
        Of the catalog.
    mosaics
        Previews, by dataset id; a dataset without has none.
    url
        Where people reach the workspace; if None, the page takes the place that it is opened from.
    """
    style, script = _resource("page.css"), _resource("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; "
        f"script-src {_source(script)}; base-uri 'none'; form-action 'none'"
    )
    caches = shown_caches(contents)
    latest = {entry.key for entry in contents.entries}
    places = _Places(
        contents,
        {e.reference: f"cache-{e.name if e.key in latest else e.reference}" for e in caches},
        url,
    )
    sections = [
        _section(places, name, dataset, own, mosaics.get(identity))
        for (identity, name), (dataset, own) in _by_dataset(contents, caches).items()
    ]
    models = sorted({str(entry.facts["model"]) for entry in caches})
    names = list(dict.fromkeys(str(entry.facts["dataset"]["name"]) for entry in caches))
    body = "".join(sections) or '<p class="empty">This catalog has no entries yet.</p>'
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Feature caches</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#caches">Skip to the caches</a>
<header>
<h1>Feature caches</h1>
<p class="lead">What vision models see in images, computed once: open it, and search.</p>
<form id="filters" role="search" hidden>
<label class="grow">Search <input id="words" type="search" autocomplete="off" spellcheck="false"
 placeholder="name, model, layer, owner, licence …" aria-keyshortcuts="/"></label>
<label>Dataset <select id="dataset"><option value="">all</option>{_options(names)}</select></label>
<label>Model <select id="model"><option value="">all</option>{_options(models)}</select></label>
<label class="check"><input id="current" type="checkbox"> Hide deprecated</label>
</form>
<p id="count" role="status">{_counted(len(caches), "cache")}</p>
</header>
<main id="caches">
{body}
</main>
<script>{script}</script>
</body>
</html>
"""


@dataclass(frozen=True)
class _Places:
    """What the parts of the page need to know of each other."""

    contents: Contents
    anchors: Mapping[str, str]
    """Where a cache's card is, by its ``name@version``."""
    url: str | None

    def link(self, reference: str, text: str) -> str:
        """Return text, linked to the card of a cache if there is one."""
        anchor = self.anchors.get(reference)
        return _text(text) if anchor is None else f'<a href="#{_text(anchor)}">{_text(text)}</a>'


def _by_dataset(
    contents: Contents, caches: Iterable[Entry]
) -> dict[tuple[str, str], tuple[Entry | None, list[Entry]]]:
    """Group caches by the dataset that they are shown with; newest datasets without any follow."""
    known = {
        (entry.id, entry.name): entry for entry in contents.versions if entry.type == "dataset"
    }
    groups: dict[tuple[str, str], tuple[Entry | None, list[Entry]]] = {}
    for entry in caches:
        place = entry.facts["dataset"]["id"], entry.facts["dataset"]["name"]
        groups.setdefault(place, (known.get(place), []))[1].append(entry)
    for entry in contents.entries:
        if entry.type == "dataset":
            groups.setdefault((entry.id, entry.name), (entry, []))
    return dict(sorted(groups.items(), key=lambda group: group[0][1]))


def _section(
    places: _Places,
    name: str,
    dataset: Entry | None,
    caches: Sequence[Entry],
    mosaic: Mosaic | None,
) -> str:
    picture = ""
    if mosaic is not None:
        data = base64.b64encode(mosaic.data).decode()
        picture = (
            f'<img class="mosaic" alt="{_counted(mosaic.count, "image")} of dataset {_text(name)}" '
            f'src="data:image/jpeg;base64,{data}">'
        )
    facts: list[str] = []
    about = ""
    if dataset is not None:
        newest = dataset in places.contents.entries
        failed = dataset.facts["unreadable"]
        facts = [] if newest else [f"version {dataset.version}, not the newest"]
        facts += [_counted(dataset.facts["images"], "image")]
        facts += [f"{failed:,} unreadable"] if failed else []
        facts += _said(dataset)
        about = _description(dataset)
    cards = "".join(_card(places, entry) for entry in caches)
    cards = cards or '<p class="empty">No cache of it yet.</p>'
    return f"""<section data-dataset="{_text(name)}">
<h2>{_text(name)}</h2>
<p class="facts">{_joined(facts)}</p>
{about}{_deprecation(places, dataset)}{picture}
<div class="cards">{cards}</div>
</section>
"""


def _card(places: _Places, entry: Entry) -> str:
    contents, url, facts = places.contents, places.url, entry.facts
    anchor = places.anchors[entry.reference]
    title = anchor.removeprefix("cache-")  # a name, or name@version where that is not the latest
    grid = "×".join(str(cells) for cells in facts["grid"])
    aliases = contents.aliases.get((entry.type, entry.name), {}).values()
    badges = [f"version {entry.version}"]
    badges += [mark.alias for mark in aliases if mark.version == entry.version]
    badges += [str(entry.about.get("status"))] if entry.about.get("status") != "active" else []
    badges += ["imported"] if str(facts["origin"]).startswith("imported:") else []
    marks = [_text(badge) for badge in badges]
    if title == entry.name:
        marks += [
            places.link(f"{mark.name}@{mark.version}", f"{mark.alias} → version {mark.version}")
            for mark in aliases
            if mark.version != entry.version
        ]
    deprecated = entry.key in contents.deprecations
    known = [
        ("layer", facts["layer"]),
        ("cells", f"{grid} of {facts['channels']:,} numbers"),
        ("size", f"{_size(facts['bytes'])} in {_counted(facts['shards'], 'shard')}"),
        ("stored as", f"{facts['dtype']}, computed in {facts['precision']}"),
        ("built", _built(entry)),
    ]
    failed = facts["unreadable"]
    known += [("failures", f"{failed:,} of {facts['images']:,} images")] if failed else []
    details = {name: value for name, value in entry.document().items() if name != "facts"}
    rest = {name: value for name, value in facts.items() if name != "recipe"}
    return f"""<article id="{anchor}" data-model="{_text(facts["model"])}"\
{" data-deprecated" if deprecated else ""}>
<h3><a href="#{anchor}">{title}</a></h3>
<p class="badges">{"".join(f"<span>{mark}</span>" for mark in marks)}</p>
{_deprecation(places, entry)}<p class="model">{_text(facts["model"])}</p>
<dl>{"".join(f"<div><dt>{_text(a)}</dt><dd>{_text(b)}</dd></div>" for a, b in known)}</dl>
<p class="facts">{_joined(_said(entry))}</p>
{_description(entry)}<div class="open"><pre tabindex="0"{"" if url else " data-here"}>\
<code>{_text(opening_lines(entry.reference, url or UNKNOWN_URL))}</code></pre>
<button type="button" class="copy" aria-label="Copy the lines that open {title}" hidden>\
Copy</button></div>
<details><summary>Recipe</summary><pre tabindex="0"><code>{_json(facts["recipe"])}</code></pre>\
</details>
<details><summary>Everything else</summary><pre tabindex="0"><code>{_json(details | rest)}</code>\
</pre></details>
</article>
"""


def _said(entry: Entry) -> list[str]:
    """Return what people say of an entry, in short."""
    about = entry.about
    terms = about.get("licences") or {}
    said = [("split", about.get("split")), ("owner", about.get("owner"))]
    said += [(f"licence of {of}", terms.get(of)) for of in ("images", "weights", "features")]
    said += [("cite", about.get("citation"))]
    return [f"{name}: {value}" for name, value in said if value]


def _built(entry: Entry) -> str:
    by, run = entry.built.get("by"), entry.built.get("flow_run")
    made = str(entry.facts["finished"])[:10]
    return made + (f" by {by}" if by else "") + (f", flow run {run}" if run else "")


def _description(entry: Entry) -> str:
    text = entry.about.get("description")
    return f'<p class="description">{_text(text)}</p>\n' if text else ""


def _deprecation(places: _Places, entry: Entry | None) -> str:
    deprecation = None if entry is None else places.contents.deprecations.get(entry.key)
    if deprecation is None:
        return ""
    parts = ["<strong>Deprecated</strong>"]
    parts += [_text(deprecation.reason)] if deprecation.reason else []
    said = ": ".join(parts)
    if deprecation.successor:
        successor = _text(deprecation.successor)
        if deprecation.type == "cache":  # datasets have no place to link to
            successor = places.link(deprecation.successor, deprecation.successor)
        said += f"; use {successor} instead"
    return f'<p class="deprecated">{said}</p>\n'


def _joined(parts: Iterable[str]) -> str:
    return "".join(f"<span>{_text(part)}</span>" for part in parts)


def _options(values: Iterable[str]) -> str:
    return "".join(f"<option>{_text(value)}</option>" for value in values)


def _json(value: Mapping[str, Any]) -> str:
    return _text(json.dumps(value, indent=1, ensure_ascii=False))


def _text(value: object) -> str:
    """Return text as HTML, in elements and attributes; what cannot be seen is made visible."""
    shown = (c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    return html.escape("".join(shown), quote=True)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _resource(name: str) -> str:
    return files("catalog").joinpath(name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """Return the name by which the page's policy allows an inline style or script, and no other."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
