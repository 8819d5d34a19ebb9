"""What a picture's URI may be, and its normal form. Columns, not cells, are looked at.

`a.jpg`, `shoes/ (1).jpg`           relative to the catalogue's folder, and within it; taken as it is, `%` and `?` too
`/mnt/a.jpg`, `file:///mnt/a%20b`   absolute, on the machine that reads it; a file: URI's `%20` is a space
`gs://bucket/object`                an object's name, taken as it is
`https://host/...`, `http://host/...`
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

_SCHEME: Final = r"^(?:[A-Za-z][A-Za-z0-9+.\-]*:/|data:|//)"
"""What has one; `12:30.jpg` hasn't. ``//host/`` is how pages name what is on any scheme."""
_KNOWN: Final = r"(?s)^(?:https?://[^/?#]|gs://[a-z0-9][a-z0-9_.\-]{1,220}[a-z0-9]/.|file:(?://(?:localhost)?)?/[^/])"
_LOUD: Final = r"^[a-z+.\-]*[A-Z][A-Za-z+.\-]*:/"
_FILE: Final = r"^file:(?://(?:localhost)?)?"
_UPWARDS: Final = r"(?:^|/)\.\.(?:/|$)"


@dataclass(frozen=True, slots=True)
class Refused:
    """A picture that can't be one. row: its place in the column, from 0."""

    row: int
    what: str


def resolve(pictures: pa.StringArray, folder: str | None) -> tuple[pa.StringArray, Refused | None]:
    """The pictures in normal form (an absolute path, gs://, http:// or https://), or the first that can't have one.

    pictures: text without nulls. folder: of the catalogue, an absolute path or gs://; None where relative ones mean
    nothing.
    """
    if pc.any(pc.match_substring_regex(pictures, _LOUD)).as_py():
        pictures = _with_small_scheme(pictures)
    schemed = pc.match_substring_regex(pictures, _SCHEME)
    relative = pc.invert(pc.or_(schemed, pc.starts_with(pictures, "/")))
    refused = _refused(pictures, schemed, relative, folder)
    if refused:
        return pictures, refused
    local = pc.invert(schemed)
    if pc.any(pc.starts_with(pictures, "file:")).as_py():
        files = pc.starts_with(pictures, "file:")
        pictures = pc.replace_with_mask(pictures, files, _paths(pictures.filter(files)))
        local = pc.or_(local, files)
    if pc.any(relative).as_py():
        inner = pc.replace_substring_regex(pictures, r"^(?:\./+)+", "")
        pictures = pc.if_else(relative, pc.binary_join_element_wise(f"{folder}/", inner, ""), pictures)
        if folder is not None and folder.startswith("gs://"):
            local = pc.and_not(local, relative)
    if pc.any(local).as_py():
        pictures = pc.if_else(local, pc.replace_substring_regex(pictures, r"/(?:\.?/)+", "/"), pictures)
    return pictures, None


def _refused(
    pictures: pa.StringArray, schemed: pa.BooleanArray, relative: pa.BooleanArray, folder: str | None
) -> Refused | None:
    found = []
    strange = pc.and_not(schemed, pc.match_substring_regex(pictures, _KNOWN))
    what = "should be a path, file:///<path>, gs://<bucket>/<object>, or an http:// or https:// URL"
    found.append((_first(strange), what))
    if folder is None:
        found.append((_first(relative), "should be a URI: a table has no folder that it could be relative to"))
    upwards = pc.and_(relative, pc.match_substring_regex(pictures, _UPWARDS))
    found.append((_first(upwards), "must lie within the catalogue's folder"))
    found.append((_first_undecodable(pictures), "should be a file: URI whose %-signs spell UTF-8"))
    row, what = min(found, key=lambda one: one[0] if one[0] >= 0 else len(pictures))
    return Refused(row, f"{what}, and is {pictures[row].as_py()[:200]!r}") if row >= 0 else None


def _first(mask: pa.BooleanArray) -> int:
    return int(pc.index(mask, value=True).as_py())


def _with_small_scheme(pictures: pa.StringArray) -> pa.StringArray:
    parts = pc.extract_regex(pictures, r"(?s)^(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)(?P<rest>:/.*)$")
    small = pc.binary_join_element_wise(pc.ascii_lower(pc.struct_field(parts, 0)), pc.struct_field(parts, 1), "")
    return pc.coalesce(small, pictures)


def _escaped(pictures: pa.StringArray) -> pa.BooleanArray:
    return pc.match_substring_regex(pictures, r"(?s)^file:.*%")


def _first_undecodable(pictures: pa.StringArray) -> int:
    rows = pc.indices_nonzero(_escaped(pictures))
    for row in rows.to_pylist():
        try:
            unquote(pictures[row].as_py(), errors="strict")
        except UnicodeDecodeError:
            return int(row)
    return -1


def _paths(files: pa.StringArray) -> pa.StringArray:
    """The paths of file: URIs. One after another where there are `%`-signs: Arrow can't spell those out."""
    escaped = _escaped(files)
    paths = pc.replace_substring_regex(files, _FILE, "")
    if not pc.any(escaped).as_py():
        return paths
    spelt = [unquote(path, errors="strict") for path in paths.filter(escaped).to_pylist()]
    return pc.replace_with_mask(paths, escaped, pa.array(spelt, pa.string()))
