"""Make the demo catalogue `home-store/` from the furniture library of Sweet Home 3D.

    apt-get download sweethome3d-furniture && dpkg -x sweethome3d-furniture_1.8-1_all.deb furniture
    python make_home_store.py furniture/usr/share/sweethome3d/furniture home-store

Each of the package's .sh3f files is a zip with a PluginFurnitureCatalog.properties (latin-1; name#N, category#N,
creator#N, icon#N, model#N), one rendered PNG with transparency a product, and licence files. What comes out is made
only of what goes in and of the Pillow that writes the JPEGs: the same input gives the same bytes.

Licences are taken per product, not per zip: where a model's own licence file asks for more than its zip does, the
model's file is believed.
"""

from __future__ import annotations

import argparse
import html
import io
import json
import posixpath
import re
import unicodedata
import zipfile
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDE: Final = 128
"""Pixels a side: what nearly all of the package's pictures have."""

JPEG_QUALITY: Final = 85

CC_BY: Final = "CC-BY-3.0"
CC_BY_US: Final = "CC-BY-3.0-US"
CC0: Final = "CC0-1.0"
LICENCE_URLS: Final = {
    CC_BY: "https://creativecommons.org/licenses/by/3.0/",
    CC_BY_US: "https://creativecommons.org/licenses/by/3.0/us/",
    CC0: "https://creativecommons.org/publicdomain/zero/1.0/",
}

LEFT_OUT_CATEGORIES: Final = frozenset({"Characters"})
"""People and animals, which no home store sells."""

LEFT_OUT_MODELS: Final = re.compile(r"Scopia#(billet-|fleche-|stationnement-|passage-)")
"""Banknotes and markings on asphalt."""

MERGED_CATEGORIES: Final = {"Staircases": "Doors and windows"}
"""Two products are too few for a category of their own; an escalator is nearest to the lifts and doors."""


class Library(NamedTuple):
    """One .sh3f file, and what its licence file and the package's copyright file ask of those who pass it on."""

    file: str
    licence: str
    credit: str


LIBRARIES: Final = (
    Library(
        "BlendSwap-CC-0.sh3f",
        CC0,
        "Various authors of blendswap.com, converted by Emmanuel PUYBARET / eTeks; CC0 asks for no credit, they "
        "are named below all the same",
    ),
    Library(
        "BlendSwap-CC-BY.sh3f",
        CC_BY,
        "Various authors of blendswap.com, named below; converted by Emmanuel PUYBARET / eTeks",
    ),
    Library("KatorLegaz.sh3f", CC_BY_US, "(C) 2003-2008 Andrew Kator & Jennifer Legaz"),
    Library("Reallusion.sh3f", CC_BY_US, "(C) 2008-2016 Reallusion, http://www.reallusion.com"),
    Library(
        "Scopia.sh3f",
        CC_BY,
        "(C) 2006-2020 Scopia Visual Interfaces Systems, s.l. (http://www.scopia.es) and, for the pictures and many of "
        "the models, (C) 2014-2020 Emmanuel PUYBARET / eTeks <info@eteks.com>",
    ),
)


class Work(NamedTuple):
    """What a model's own licence file says: title and author as its author gave them, address, licence; "": nothing."""

    title: str = ""
    author: str = ""
    url: str = ""
    licence: str = ""


class Entry(NamedTuple):
    """One product as its library has it."""

    library: Library
    source: str
    name: str
    category: str
    creator: str
    picture: Image.Image
    work: Work


@dataclass(frozen=True, slots=True)
class Product:
    """One line of catalogue.jsonl."""

    id: str
    name: str
    category: str
    creator: str
    licence: str
    source: str
    file: str


def parse_properties(text: str) -> list[dict[str, str]]:
    """Return the numbered entries of a catalogue in their own order, each as key -> value."""
    entries: dict[int, dict[str, str]] = defaultdict(dict)
    for line in text.splitlines():
        match = re.fullmatch(r"(\w+)#(\d+)=(.*)", line)
        if match:
            key, number, value = match.groups()
            entries[int(number)][key] = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), value).strip()
    return [entries[number] for number in sorted(entries)]


def parse_licence_file(text: str) -> Work:
    """Read one of the three forms of licence file that the library's models came with.

    Raises ValueError for a file that names neither of the two licences: a person has to look at it.
    """
    plain = html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)))
    if "Creative Commons Attribution 3.0" in plain:
        licence = CC_BY
    elif "Creative Commons Zero" in plain:
        licence = CC0
    else:
        raise ValueError(f"a licence file that names no known licence: {plain[:200]}")
    title, author = "", ""
    for pattern in (
        r'downloading "(?P<title>.*?)" by (?P<author>.*?) Released under',
        r"^ ?(?P<title>.*?) by (?P<author>[^-]*?) - \d+ - Creative Commons License",
        r"\d+ - (?P<title>.*?) - Downloaded from Blend Swap .*?(?:Author: (?P<author>.*?) )?Released under",
    ):
        match = re.search(pattern, plain)
        if match:
            title, author = match["title"].strip(), (match["author"] or "").strip()
            break
    url = re.search(r"blendswap\.com/blends/view/\d+", text)
    return Work(title, author, f"http://www.{url[0]}" if url else "", licence)


def read_library(path: Path, library: Library) -> Iterator[Entry]:
    """Yield the library's products with their pictures, in the library's order."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for raw in parse_properties(archive.read("PluginFurnitureCatalog.properties").decode("latin-1")):
            folder = posixpath.dirname(raw["model"].lstrip("/")) + "/"
            own = [n for n in names if n.startswith(folder) and re.search(r"licen[sc]e\.(txt|html)$", n, re.IGNORECASE)]
            works = [parse_licence_file(archive.read(n).decode("utf-8", "replace")) for n in own]
            # The stricter licence first, if a folder should hold two.
            work = min(works, key=lambda work: work.licence != CC_BY, default=Work())
            picture = Image.open(io.BytesIO(archive.read(raw["icon"].lstrip("/"))))
            yield Entry(library, raw["id"], raw["name"], raw["category"], raw["creator"], picture, work)


def is_product(entry: Entry) -> bool:
    """Say whether a home store would sell it."""
    return entry.category not in LEFT_OUT_CATEGORIES and not LEFT_OUT_MODELS.match(entry.source)


def slug(text: str) -> str:
    """Return `text` as lower-case ASCII words joined by hyphens."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text.lower().replace("'", "")).strip("-")


def product_ids(entries: list[Entry]) -> list[str]:
    """Return one id an entry: its name's slug, numbered in library order where several share a name.

    The order is that of a published package, so the ids are stable as long as LIBRARIES and the version are.
    """
    slugs = [slug(entry.name) for entry in entries]
    sharing, seen = Counter(slugs), Counter[str]()
    ids = []
    for word in slugs:
        seen[word] += 1
        ids.append(word if sharing[word] == 1 else f"{word}-{seen[word]}")
    if repeated := [word for word, count in Counter(ids).items() if count > 1]:
        raise ValueError(f"two products would share an id: {repeated}")
    return ids


def on_white(picture: Image.Image) -> Image.Image:
    """Return the picture, at most SIDE pixels a side, in the middle of a white square of SIDE pixels."""
    rgba = picture.convert("RGBA")
    rgba.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (SIDE, SIDE), "white")
    square.paste(rgba, ((SIDE - rgba.width) // 2, (SIDE - rgba.height) // 2), rgba)
    return square


def as_product(entry: Entry, product_id: str) -> Product:
    """Return the catalogue line of an entry."""
    licence = entry.library.licence
    if licence == CC0:
        licence = entry.work.licence or CC0
    return Product(
        product_id,
        entry.name,
        MERGED_CATEGORIES.get(entry.category, entry.category),
        entry.creator,
        licence,
        entry.source,
        f"images/{product_id}.jpg",
    )


def named(entry: Entry) -> str:
    """Return whom to name: the library's creator, and the author by the model's own licence file where that differs."""
    known = entry.work.author.casefold() in entry.creator.casefold()
    return entry.creator if known else f"{entry.creator} (in its own file: {entry.work.author})"


def licences_page(products: list[tuple[Entry, Product]]) -> str:
    """Return LICENCES.md: what is under which licence, whom to name, and what was changed."""
    sizes = Counter(entry.library for entry, _ in products)
    libraries = [
        f"| {each.file} | {sizes[each]} | [{each.licence}]({LICENCE_URLS[each.licence]}) | {each.credit} |"
        for each in LIBRARIES
        if sizes[each]
    ]
    works = []
    for entry, product in products:
        if entry.library.file.startswith("BlendSwap"):
            title = entry.work.title.replace("|", "/") or "(no licence file beside the model)"
            link = f"[{title}]({entry.work.url})" if entry.work.url else title
            works.append(f"| {product.id} | {named(entry)} | {link} | {product.licence} |")
    stricter = [f"`{product.id}`" for entry, product in products if product.licence != entry.library.licence]
    template = Path(__file__).with_name("home_store_licences.md").read_text(encoding="utf-8")
    return template.format(
        side=SIDE, libraries="\n".join(libraries), works="\n".join(works), stricter=", ".join(stricter)
    )


def make(libraries: Path, destination: Path) -> list[Product]:
    """Write images/, catalogue.jsonl and LICENCES.md into `destination`, and return the products.

    Raises FileNotFoundError when a library is not in the folder.
    """
    entries = [entry for library in LIBRARIES for entry in read_library(libraries / library.file, library)]
    kept = list(filter(is_product, entries))
    images = destination / "images"
    images.mkdir(parents=True, exist_ok=True)
    for stale in images.glob("*.jpg"):
        stale.unlink()
    products = [(entry, as_product(entry, word)) for entry, word in zip(kept, product_ids(kept), strict=True)]
    products.sort(key=lambda pair: pair[1].id)
    for entry, product in products:
        on_white(entry.picture).save(destination / product.file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    lines = (json.dumps(asdict(product), ensure_ascii=False) for _, product in products)
    (destination / "catalogue.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (destination / "LICENCES.md").write_text(licences_page(products), encoding="utf-8")
    return [product for _, product in products]


def main() -> None:
    """Read the two folders from the command line, and say what was made."""
    parser = argparse.ArgumentParser(description="Make the demo catalogue from Sweet Home 3D's furniture libraries.")
    parser.add_argument("libraries", type=Path, help="folder with the package's .sh3f files")
    parser.add_argument("destination", type=Path, help="folder to write the catalogue to")
    arguments = parser.parse_args()
    products = make(arguments.libraries, arguments.destination)
    print(f"{len(products)} products in {len({p.category for p in products})} categories")
    for category, count in sorted(Counter(p.category for p in products).items()):
        print(f"  {count:4} {category}")


if __name__ == "__main__":
    main()
