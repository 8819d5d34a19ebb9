"""The page, in a real headless Chromium. Without one these tests fail: a page that nobody looked at isn't tested."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, FilePayload, Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert Path(CHROMIUM).exists(), f"{CHROMIUM} is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page on which nothing may go wrong unseen: an error or a breach of the content policy fails the test."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(10_000)
    faults: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and "status of 4" not in message.text and "ERR_" not in message.text:
            faults.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    page.close()
    assert not faults


@pytest.fixture(scope="module")
def pictures(good_build: Any) -> Iterator[str]:
    """Another origin, from which the page gets the items' pictures."""
    shots = {item: n for n, item in enumerate(i for ids in good_build.ids.values() for i in ids)}
    draw = good_build.picture

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            item = self.path.removeprefix("/").removesuffix(".jpg")
            self.send_response(200 if item in shots else 404)
            self.send_header("content-type", "image/jpeg")
            self.end_headers()
            if item in shots:
                self.wfile.write(draw(shots[item]))

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{{id}}.jpg"
    server.shutdown()


@pytest.fixture(scope="module")
def url(server: Any) -> str:
    address: str = server.url
    return address


@pytest.fixture(scope="module")
def server_environment(good_build: Any, pictures: str) -> dict[str, str]:
    return {**good_build.environment(), "ITEM_IMAGE_URL": pictures}


def test_the_page_shows_products_by_category_and_what_is_served(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator("#live-text")).to_contain_text(
        "generation 1700000000000001 · indexes/home-store/20261121t1200z"
    )
    expect(page.locator("#products .card")).to_have_count(60)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#products .card")).to_have_count(71)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    page.get_by_role("button", name="lamps 25").click()
    expect(page.locator("#products .card")).to_have_count(25)
    expect(page.locator("#products-title")).to_have_text("lamps")
    image = page.locator("#products img").first
    assert image.evaluate("async (image) => { await image.decode(); return image.naturalWidth }") == 64


def test_a_click_on_a_product_shows_the_most_similar_ones_and_back_leads_back(page: Page, url: str) -> None:
    page.goto(url)
    page.locator("#products .card", has_text="Chair 7").first.click()
    expect(page.locator("#answer-title")).to_have_text("Chair 7")
    expect(page.locator("#neighbors .card")).to_have_count(12)
    expect(page.locator("#neighbors .card[data-id='chair-7']")).to_have_count(0)
    expect(page.locator("#answer-title")).to_be_focused()
    page.get_by_label("Only chairs").check()
    expect(page.locator("#neighbors .category", has_text=re.compile("^(?!chairs$)"))).to_have_count(0)
    expect(page.locator("#neighbors .card")).to_have_count(12)
    page.go_back()
    expect(page.locator("#answer")).to_be_hidden()


def test_a_photo_of_ones_own_finds_the_product_on_it(page: Page, url: str, new_picture: Callable[..., bytes]) -> None:
    page.goto(url)
    photo = FilePayload(name="photo.png", mimeType="image/png", buffer=new_picture(3, "PNG"))
    page.locator("#file").set_input_files(photo)
    expect(page.locator("#answer-title")).to_have_text("Your photo")
    first = page.locator("#neighbors .card").first
    expect(first).to_have_attribute("data-id", "chair-3")
    expect(first.locator(".score")).to_have_text(re.compile("^(99|100)%$"))


def test_a_photo_may_be_dropped_anywhere(page: Page, url: str, new_picture: Callable[..., bytes]) -> None:
    page.goto(url)
    expect(page.locator("#products .card")).to_have_count(60)
    page.evaluate(
        """async (bytes) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "dropped.jpg", { type: "image/jpeg" }));
          for (const name of ["dragover", "drop"]) {
            const event = new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true });
            document.body.dispatchEvent(event);
          }
        }""",
        list(new_picture(9)),
    )
    expect(page.locator("#neighbors .card").first).to_have_attribute("data-id", "chair-9")


def test_what_is_no_picture_is_refused_in_words(page: Page, url: str) -> None:
    page.goto(url)
    broken = FilePayload(name="photo.jpg", mimeType="image/jpeg", buffer=b"no picture at all")
    page.locator("#file").set_input_files(broken)
    expect(page.locator("#notice")).to_contain_text("picture")
    expect(page.locator("#answer")).to_be_hidden()


def test_a_new_generation_is_noticed_without_a_reload(page: Page, good_build: Any, start: Callable[..., Any]) -> None:
    first = start(good_build.environment())
    page.goto(first.url)
    expect(page.locator("#live-text")).to_contain_text("1700000000000001")
    first.stop()
    second = type(first)(good_build.environment(1700000000000002), port=first.port)
    second.start()
    try:
        second.wait_ready()
        expect(page.locator("#notice")).to_contain_text("A new index is live: generation 1700000000000002")
        expect(page.locator("#live-text")).to_contain_text("1700000000000002")
    finally:
        second.stop()


def test_everything_fits_a_narrow_screen(browser: Browser, build: Any, start: Callable[..., Any]) -> None:
    lamps, vectors = build.ids.pop("lamps"), build.vectors.pop("lamps")
    for n in range(12):  # more categories than fit side by side
        build.ids[f"Lamps of kind {n}"], build.vectors[f"Lamps of kind {n}"] = lamps[n::12], vectors[n::12]
    build.write_ids()
    build.write_indexes()
    build.seal()
    page = browser.new_page(viewport={"width": 360, "height": 740})
    page.goto(f"{start(build.environment()).url}/#item=lamp-4")
    expect(page.locator("#neighbors .card")).to_have_count(12)
    widths = page.evaluate("""[document.documentElement.scrollWidth, document.querySelector("main").scrollWidth,
        Math.round(document.querySelector("#neighbors").getBoundingClientRect().right)]""")
    page.close()
    assert max(widths) <= 360


def test_a_products_name_never_becomes_markup(page: Page, build: Any, start: Callable[..., Any]) -> None:
    build.ids["lamps"][3] = '<img src=x onerror="document.title=1">'
    build.write_ids()
    build.write_indexes()
    build.seal()
    page.goto(start(build.environment()).url)
    page.get_by_role("button", name="lamps").click()
    expect(page.get_by_text('onerror="document.title=1">')).to_be_visible()
    expect(page).to_have_title("Similar products")


def test_without_a_model_nobody_is_asked_for_a_photo(page: Page, build: Any, start: Callable[..., Any]) -> None:
    partitions = tuple(replace(one, model=None) for one in build.manifest.partitions)
    build.say(replace(build.manifest, models=(), partitions=partitions))
    page.goto(f"{start(build.environment()).url}/#item=lamp-4")
    expect(page.locator("#neighbors .card")).to_have_count(12)
    expect(page.locator("#photo")).to_be_hidden()
    expect(page.locator("#hint")).not_to_contain_text("photo")
    expect(page.locator("#facts")).to_contain_text("none: vectors of its own")
