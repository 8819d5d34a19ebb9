"""The page, in a real headless Chromium. Without one these tests fail: a page that nobody looked at isn't tested."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from tests.answering import Answer, Asked, http_server
from tests.chromium import chromium, faultless_page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with faultless_page(browser, viewport={"width": 1280, "height": 900}) as page:
        yield page


@pytest.fixture(scope="module")
def pictures(good_build: Any) -> Iterator[str]:
    """Another origin, from which the page gets the items' pictures, and the names of most."""
    names = {f"chair-{n}": f"Oak chair no. {n}" for n in range(40)}
    shots = {item: n for n, item in enumerate(i for ids in good_build.ids.values() for i in ids)}
    draw = good_build.picture

    def answer(asked: Asked) -> Answer:
        if asked.path == "/names.json":
            return Answer(json.dumps(names).encode(), headers={"access-control-allow-origin": "*"})
        item = asked.path.removeprefix("/").removesuffix(".jpg")
        if item not in shots:
            return Answer(status=404)
        return Answer(draw(shots[item]), headers={"content-type": "image/jpeg"})

    with http_server(answer) as url:
        yield f"{url}/{{id}}.jpg"


@pytest.fixture(scope="module")
def url(server: Any) -> str:
    address: str = server.url
    return address


@pytest.fixture(scope="module")
def server_environment(good_build: Any, pictures: str) -> dict[str, str]:
    names = pictures.replace("{id}.jpg", "names.json")
    return {**good_build.environment(), "ITEM_IMAGE_URL": pictures, "ITEM_NAMES_URL": names}


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


def test_a_click_on_a_product_shows_the_most_similar_ones_and_back_leads_back_to_it(page: Page, url: str) -> None:
    page.goto(url)
    product = page.locator("#products .card[data-id='chair-37']")
    product.click()
    expect(page.locator("#answer-title")).to_have_text("Oak chair no. 37")
    expect(page.locator("#neighbors .card")).to_have_count(12)
    expect(page.locator("#neighbors .card[data-id='chair-37']")).to_have_count(0)
    expect(page.locator("#answer-title")).to_be_focused()
    page.get_by_label("Only chairs").check()
    expect(page.locator("#neighbors .category", has_text=re.compile("^(?!chairs$)"))).to_have_count(0)
    expect(page.locator("#neighbors .card")).to_have_count(12)
    page.reload()
    expect(page.get_by_label("Only chairs")).to_be_checked()
    expect(page.locator("#neighbors .category", has_text=re.compile("^(?!chairs$)"))).to_have_count(0)
    page.go_back()
    expect(page.locator("#answer")).to_be_hidden()
    expect(product).to_be_focused()
    expect(product).to_be_in_viewport()


def test_back_from_one_product_to_another_leads_to_the_neighbour_that_was_opened(page: Page, url: str) -> None:
    page.goto(f"{url}/#item=chair-7")
    neighbor = page.locator("#neighbors .card").nth(8)
    item = neighbor.get_attribute("data-id")
    neighbor.press("Enter")
    expect(page.locator("#answer-title")).to_be_focused()
    page.go_back()
    expect(page.locator("#answer-title")).to_have_text("Oak chair no. 7")
    expect(page.locator(f"#neighbors .card[data-id='{item}']")).to_be_focused()


def test_who_leaves_an_answer_by_its_link_is_at_the_product_again(page: Page, url: str) -> None:
    page.goto(f"{url}/#item=chair-30")
    page.get_by_role("link", name="Back to all products").click()
    expect(page.locator("#answer")).to_be_hidden()
    expect(page.locator("#products .card[data-id='chair-30']")).to_be_focused()


def test_by_keyboard_the_first_product_is_in_sight_below_the_bar(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator("#products .card")).to_have_count(60)
    for key in ("Tab", "Enter", "Tab"):  # to the products, and to the first of them
        page.keyboard.press(key)
    first = page.locator("#products .card").first
    expect(first).to_be_focused()
    bar, card = page.locator(".bar").bounding_box(), first.bounding_box()
    assert bar is not None
    assert card is not None
    assert card["y"] >= bar["y"] + bar["height"]


def test_products_are_called_what_the_catalogue_calls_them_or_else_by_their_ids(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator("#products .card[data-id='chair-3'] .name")).to_have_text("Oak chair no. 3")
    expect(page.locator("#products .card[data-id='lamp-3'] .name")).to_have_text("lamp-3")


def test_a_text_finds_products_by_all_its_words_in_name_or_id(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator("#products .card")).to_have_count(60)
    page.get_by_label("Filter by name").fill("CHAIR oak 39")
    expect(page.locator("#products .name")).to_have_text(["Oak chair no. 39"])
    expect(page.locator("#found")).to_have_text("1 product found.")
    page.get_by_label("Filter by name").fill("lamp-1")
    expect(page.locator("#products .card")).to_have_count(11)
    page.get_by_role("button", name="chairs 40").click()
    expect(page.locator("#found")).to_have_text("No product is called that.")
    page.get_by_label("Filter by name").fill("")
    expect(page.locator("#products .card")).to_have_count(40)


def test_a_filtered_list_goes_on_where_it_ended(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_label("Filter by name").fill("a")
    expect(page.locator("#found")).to_have_text("60 products so far.")
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#found")).to_have_text("71 products found.")
    ids = page.locator("#products .card").evaluate_all("(cards) => cards.map((card) => card.dataset.id)")
    assert len(set(ids)) == 71


def test_a_weak_match_is_said_in_words_and_the_percentage_is_explained(page: Page, url: str) -> None:
    page.goto(f"{url}/#item=chair-7")
    weak = page.locator("#neighbors .card.weak .score").last
    expect(weak).to_have_text(re.compile(r"^\d+% · weak$"))
    expect(weak).to_have_accessible_name(re.compile(r"^similarity \d+ percent, a weak match$"))
    page.get_by_text("What does the percentage mean?").click()
    expect(page.get_by_text("100 % is the same picture")).to_be_visible()


def test_a_photo_survives_a_reload_and_is_gone_with_its_tab(
    page: Page, browser: Browser, url: str, new_picture: Callable[..., bytes]
) -> None:
    page.goto(url)
    photo = FilePayload(name="photo.png", mimeType="image/png", buffer=new_picture(3, "PNG"))
    page.locator("#file").set_input_files(photo)
    expect(page.locator("#neighbors .card").first).to_have_attribute("data-id", "chair-3")
    page.reload()
    expect(page.locator("#answer-title")).to_have_text("Your photo")
    expect(page.locator("#neighbors .card").first).to_have_attribute("data-id", "chair-3")
    other = browser.new_page()
    other.goto(f"{url}/#photo")
    expect(other.locator("#notice")).to_have_text("Choose the photo again, please.")
    other.close()


def test_a_server_that_is_away_is_said_without_its_jargon(
    page: Page, good_build: Any, start: Callable[..., Any]
) -> None:
    server = start(good_build.environment())
    page.goto(server.url)
    expect(page.locator("#products .card")).to_have_count(60)
    server.stop()
    page.locator("#products .card").first.click()
    expect(page.locator("#notice")).to_have_text("The search can't be reached. Check your connection, and try again.")


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
    expect(page.locator("#notice")).to_have_text("This file can't be read as a picture. Try a JPEG, PNG or WebP.")
    expect(page.locator("#answer")).to_be_hidden()


def test_a_new_generation_is_noticed_without_a_reload(page: Page, good_build: Any, start: Callable[..., Any]) -> None:
    first = start(good_build.environment())
    page.goto(first.url)
    expect(page.locator("#live-text")).to_contain_text("1700000000000001")
    first.stop()
    page.context.set_offline(True)  # whoever asks before it is ready gets a 503
    second = type(first)(good_build.environment(1700000000000002), port=first.port)
    second.start()
    try:
        second.wait_ready()
        page.context.set_offline(False)
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
