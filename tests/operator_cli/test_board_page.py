"""The board's page, in a real Chromium, on a board that runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from playwright.sync_api import Browser, Page, expect

from model_repository.documents.receipts.address import Address
from model_repository.documents.receipts.canary_figures import CanaryFigures, TrackFigures
from model_repository.documents.receipts.receipt import Outcome
from model_repository.documents.receipts.shadow_comparison import (
    AnswersCompared,
    Difference,
    Latency,
    Questions,
    ShadowComparison,
)
from model_repository.names import IndexPrefix, Target
from model_repository.repository import write_address, write_shadow_comparison
from operator_cli.board.identity import OwnMachine
from operator_cli.webhook import Webhook
from tests.chromium import chromium, faultless_page
from tests.operator_cli.board_scene import Running, running, shop
from tests.operator_cli.conftest import Operator
from tests.operator_cli.test_diff import FOUND, counted, upload
from tests.operator_cli.webhook_server import TOKEN, answering, comparison, rollout

SIGN_IN = OwnMachine("eve@example.com")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def board(operator: Operator) -> Iterator[Running]:
    shop(operator)
    with running(operator, SIGN_IN) as found:
        yield found


@pytest.fixture
def page(browser: Browser, board: Running) -> Iterator[Page]:
    with faultless_page(browser) as page:
        page.goto(f"{board.url}/?key={SIGN_IN.secret}")
        expect(page.locator("#live-text")).to_have_text("live")
        yield page


def row(page: Page, environment: str, index: str) -> object:
    return page.locator("#rows > tr:not(.details)").filter(has_text=index).filter(has_text=environment)


def opened(page: Page, environment: str, index: str) -> Page:
    row(page, environment, index).locator(".open").click()  # type: ignore[attr-defined]
    expect(page.locator("tr.details:visible .timeline")).to_be_visible()
    return page


def test_each_index_is_a_row_and_what_needs_a_person_comes_first_with_its_reason(page: Page) -> None:
    rows = page.locator("#rows > tr:not(.details)")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("2 of 3 pods crashed: out of memory")
    expect(rows.nth(0).locator(".state")).to_have_text("undone")
    expect(rows.nth(1)).to_contain_text("b2")
    expect(rows.nth(1)).to_contain_text("ada@example.com")
    expect(rows.nth(1)).to_contain_text("a new season")
    expect(page.locator("#summary")).to_have_text("3 indexes, 1 needs a person")
    assert "key=" not in page.url


def test_a_commit_and_its_receipt_show_up_by_themselves_and_focus_stays(page: Page, operator: Operator) -> None:
    clothing = page.get_by_role("button", name="clothing").first
    clothing.focus()
    operator.deployed(operator.build("b3"))
    expect(row(page, "production", "clothing")).to_contain_text("b3")  # type: ignore[arg-type]
    expect(clothing).to_be_focused()


def test_a_row_links_to_where_its_index_answers(page: Page, operator: Operator) -> None:
    clothing = row(page, "production", "clothing")

    def serve(build: str, *urls: str) -> None:
        prefix = operator.build(build)
        generation = operator.commit(prefix)
        if urls:  # before the receipt, as the webhook does
            write_address(operator.store, Address(operator.target, generation, *urls))
        operator.receipt(generation, Outcome.SERVED, prefix)
        expect(clothing).to_contain_text(build)  # type: ignore[arg-type]

    serve("b3", "http://clothing.search.svc")
    link = clothing.get_by_role("link", name="clothing.search.svc")  # type: ignore[attr-defined]
    expect(link).to_have_attribute("href", "http://clothing.search.svc")
    expect(link).to_have_attribute("rel", "noreferrer")
    serve("b4", "http://clothing.search.svc", "https://search.example/clothing")
    link = clothing.get_by_role("link", name="search.example/clothing")  # type: ignore[attr-defined]
    expect(link).to_have_attribute("href", "https://search.example/clothing")
    serve("b5")  # by a webhook of an older release
    expect(clothing.get_by_role("link")).to_have_count(0)  # type: ignore[attr-defined]


def test_a_rollout_shows_its_pods_and_its_seconds_go_on(browser: Browser, operator: Operator) -> None:
    shop(operator)
    generation = operator.commit(operator.build("b3"))
    with (
        answering() as webhook,
        running(operator, SIGN_IN, webhooks=[Webhook(webhook.url, TOKEN)]) as board,
        faultless_page(browser) as page,
    ):
        webhook.rollouts = [rollout("clothing", generation)]
        page.goto(f"{board.url}/?key={SIGN_IN.secret}")
        clothing = row(page, "production", "clothing")
        expect(clothing).to_contain_text("1 of 3 new pods ready, 42 s")  # type: ignore[arg-type]
        expect(clothing).to_contain_text("2 of 3 pods are new")  # type: ignore[arg-type]
        expect(clothing.locator("[data-since]")).not_to_have_text("42 s")  # type: ignore[attr-defined]
        webhook.rollouts = [rollout("clothing", generation, canary=True, ready=0, wanted=1, detail="")]
        expect(clothing).to_contain_text("0 of 1 canary pods ready")  # type: ignore[arg-type]
        webhook.status = 503
        expect(clothing).to_contain_text("pods unknown")  # type: ignore[arg-type]


def test_what_a_canary_shows_is_told_while_it_goes_on_beside_the_rules_that_judge_it(
    browser: Browser, operator: Operator
) -> None:
    shop(operator)
    generation = operator.commit(operator.build("b3"))
    going = rollout("clothing", generation, canary=True, ready=1, wanted=1, given_up_in=252.0)
    with (
        answering() as webhook,
        running(operator, SIGN_IN, webhooks=[Webhook(webhook.url, TOKEN)]) as board,
        faultless_page(browser) as page,
    ):
        webhook.rollouts = [going | {"comparison": comparison()}]
        page.goto(f"{board.url}/?key={SIGN_IN.secret}")
        clothing = row(page, "production", "clothing")
        expect(clothing).to_contain_text("canary: no worse so far, judged in 18 s")  # type: ignore[arg-type]
        expect(clothing).to_contain_text("p95 4.3 ms, live p95 3.9 ms; 1.00 % failed, live 0 % failed")  # type: ignore[arg-type]
        opened(page, "production", "clothing")
        figures = page.get_by_role("table").filter(has_text="Allowed").last
        for words in (
            "Requests answered 5xx 9 of 900 (1.00 %) 0 of 1,900 (0 %) 1.00 % more",
            "95 % of probes within 4.3 ms 3.9 ms 2 times live's, or 20 ms",
        ):
            expect(figures.get_by_role("row", name=words)).to_be_visible()
        what_changed = page.get_by_role("button", name="Hold")
        what_changed.focus()
        read_before = page.evaluate("performance.getEntriesByType('resource').length")
        webhook.rollouts = [going | {"comparison": comparison("worse", 16.0, why="9 of 10 failed")}]
        expect(page.locator("tr.details:visible .comparison")).to_contain_text(
            "After 42 s worse so far, judged in 16 s: 9 of 10 failed"
        )
        expect(what_changed).to_be_focused()
        assert page.evaluate("performance.getEntriesByType('resource').length") == read_before, "no receipt changed"
        webhook.rollouts = [going | {"comparison": comparison("too-few-answers", 0.0)}]
        expect(clothing).to_contain_text("too few answers to judge yet, its time is over")  # type: ignore[arg-type]
        expect(clothing).to_contain_text("undone in 4 min unless it gets on")  # type: ignore[arg-type]
        operator.receipt(generation, Outcome.SERVED, operator.build("b3"))
        expect(page.locator("tr.details:visible .comparison")).to_be_empty()


def test_a_shadow_says_how_it_answers_beside_its_index_and_so_do_those_before_it(
    page: Page, operator: Operator
) -> None:
    target, b2 = Target("production", "clothing").shadow, IndexPrefix("clothing", "b2")

    def serve(build: IndexPrefix, *overlaps: float) -> None:
        generation = operator.deployed(build, target=target)
        if overlaps:
            answers = tuple(
                AnswersCompared(
                    questions, 10, 100, 3, overlap, 0.9, Latency(1.5, 3.94), None, (Difference("i7", 0.1, 0.2),)
                )
                for questions, overlap in zip(Questions, overlaps, strict=True)
            )
            found = ShadowComparison(target, generation, build, b2, operator.clock.moment, answers, 0.9, "ada")
            write_shadow_comparison(operator.store, found)

    serve(operator.build("b3"), 0.95, 0.874)
    shadow = row(page, "production", "clothing-shadow")
    expect(shadow).to_contain_text("compared with b2")  # type: ignore[arg-type]
    expect(shadow).to_contain_text("items: 95.0 % the same, 3 missing; no answer, live p95 3.9 ms")  # type: ignore[arg-type]
    expect(shadow.locator(".worse")).to_contain_text("golden pictures: 87.4 % the same")  # type: ignore[attr-defined]
    figures = opened(page, "production", "clothing-shadow").locator(".figures")
    expect(
        figures.get_by_role("row", name="The same neighbours 95.0 % of the first 10 87.4 % of the first 10")
    ).to_be_visible()
    expect(page.locator("tr.details:visible .comparison")).to_contain_text("who wanted 90.0 % at least")
    expect(page.locator("tr.details:visible .comparison")).to_contain_text("Least alike: i7 (10.0 %)")
    serve(operator.build("b4"))
    expect(shadow).to_contain_text("not compared with its index yet: indexpush compare clothing")  # type: ignore[arg-type]
    expect(page.locator("tr.details:visible .comparison")).to_be_empty()
    expect(page.locator("tr.details:visible .timeline")).to_contain_text("beside b2: items: 95.0 % the same")


def test_what_a_canary_showed_stands_in_the_timeline(page: Page, operator: Operator) -> None:
    track = TrackFigures(1, 40, 0, 3.25, 1200, 2, 2.5)
    operator.deployed(operator.build("b3"), canary=CanaryFigures(True, 60.0, 0, 0, track, replace(track, p95_ms=None)))
    opened(page, "production", "clothing")
    expect(page.locator("tr.details:visible .timeline li").first).to_contain_text(
        "canary promoted after 60 s: canary p95 3.3 ms, 0 of 40 probes and 2 of 1,200 requests failed; "
        "stable p95 unknown, 0 of 40 probes"
    )


def test_a_row_opens_and_tells_what_became_of_its_commits(page: Page) -> None:
    opened(page, "production", "clothing")
    entries = page.locator("tr.details:visible .timeline li")
    expect(entries).to_have_count(2)
    expect(entries.nth(0)).to_contain_text("b2, by ada@example.com, in 2 s")
    expect(entries.nth(1)).to_contain_text("b1, by somebody (not stated)")
    expect(page.get_by_role("img", name="Items: ")).to_be_visible()
    expect(page.get_by_role("img", name="Recall: ")).to_be_visible()
    expect(page.get_by_role("button", name="clothing").first).to_have_attribute("aria-expanded", "true")


def test_rolling_back_takes_three_clicks_says_first_what_it_does_and_stands_in_the_record(
    page: Page, operator: Operator
) -> None:
    counted(operator, "b1", {"bags": ["a", "b", "c"]}, age=5)
    counted(operator, "b2", {"bags": ["b", "d"]}, age=1)
    opened(page, "production", "clothing")
    page.get_by_role("button", name="Roll back").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("commits indexes/clothing/b1")
    expect(dialog).to_contain_text("in place of indexes/clothing/b2")
    expect(dialog).to_contain_text("against b2: 2 items came, 1 went, 0 changed their category")
    before = operator.generation()
    dialog.get_by_label("Why?").fill("b2 is worse")
    dialog.get_by_role("button", name="Roll back").click()
    expect(dialog).to_be_hidden()
    expect(row(page, "production", "clothing")).to_contain_text("waiting")  # type: ignore[arg-type]
    live = operator.live()
    assert (live["index_prefix"], live["by"], live["reason"]) == (
        "indexes/clothing/b1",
        "eve@example.com",
        "b2 is worse",
    )
    assert operator.generation() != before


def test_a_rollback_may_be_held(page: Page, operator: Operator) -> None:
    opened(page, "production", "clothing")
    page.get_by_role("button", name="Roll back").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Hold it").check()
    expect(dialog).to_contain_text("commits indexes/clothing/b1, on hold")
    expect(dialog).to_contain_text("can't be compared: indexes/clothing/b2/items.lookup: expected the magic")
    dialog.get_by_label("Why?").fill("b2 is worse")
    dialog.get_by_role("button", name="Roll back").click()
    expect(dialog).to_be_hidden()
    assert operator.live()["hold"] is True


def test_a_hold_is_put_and_released_by_keyboard_alone(page: Page, operator: Operator) -> None:
    page.get_by_role("button", name="clothing").first.press("Enter")
    for name, held in (("Hold", True), ("Release the hold", False)):
        page.get_by_role("button", name=name, exact=True).press("Enter")
        expect(page.get_by_role("dialog")).to_contain_text("commits indexes/clothing/b2")
        page.keyboard.type("the fair is on")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(row(page, "production", "clothing").get_by_text("on hold")).to_have_count(int(held))  # type: ignore[attr-defined]
        assert operator.live().get("hold", False) is held
        opposite = "Release the hold" if held else "Hold"
        expect(page.get_by_role("button", name=opposite, exact=True)).to_be_visible()


def test_what_serves_elsewhere_is_promoted_to_here(page: Page, operator: Operator) -> None:
    opened(page, "production", "clothing")
    page.get_by_role("button", name="Promote to here").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("What serves in")).to_have_value("staging")
    expect(dialog).to_contain_text("commits indexes/clothing/b1")
    dialog.get_by_label("Why?").fill("tried in staging")
    dialog.get_by_role("button", name="Promote").click()
    expect(dialog).to_be_hidden()
    assert operator.live()["index_prefix"] == "indexes/clothing/b1"


def test_a_commit_that_came_meanwhile_is_not_replaced_and_that_is_said(page: Page, operator: Operator) -> None:
    opened(page, "production", "clothing")
    page.get_by_role("button", name="Redeploy").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("commits indexes/clothing/b2")
    newer = operator.deployed(operator.build("b3"))
    dialog.get_by_label("Why?").fill("again")
    dialog.get_by_role("button", name="Redeploy").click()
    expect(dialog.get_by_role("alert")).to_contain_text("nothing of yours was written")
    assert operator.generation() == newer
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_a_change_needs_a_reason(page: Page, operator: Operator) -> None:
    opened(page, "production", "clothing")
    page.get_by_role("button", name="Redeploy").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("commits indexes/clothing/b2")
    before = operator.generation()
    dialog.get_by_role("button", name="Redeploy").click()
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Cancel").click()
    assert operator.generation() == before


def test_rows_are_found_by_what_is_typed_and_by_environment(page: Page) -> None:
    rows = page.locator("#rows > tr:not(.details)")
    page.get_by_role("searchbox").fill("ada@")
    expect(rows).to_have_count(1)
    page.get_by_role("searchbox").fill("nothing like it")
    expect(page.locator("#nothing")).to_have_text("Nothing fits the filter.")
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="staging", exact=True).click()
    expect(rows).to_have_count(1)
    expect(page.get_by_role("button", name="staging", exact=True)).to_have_attribute("aria-pressed", "true")


def test_text_from_the_bucket_is_never_markup(page: Page, operator: Operator) -> None:
    nasty = "<img src=x onerror=document.title='hurt'>"
    generation = operator.commit(operator.build("b4"), by=nasty, reason=nasty)
    expect(row(page, "production", "clothing")).to_contain_text(nasty)  # type: ignore[arg-type]
    assert page.title() == "Indexes"
    assert generation


def test_a_name_from_the_bucket_that_is_no_commits_is_never_markup(page: Page, operator: Operator) -> None:
    operator.store.write(
        "commits/x/<img src=x onerror=document.title='hurt'>\u202e.json", b"", if_generation_match=None
    )
    operator.store.write("commits/production/broken.json", b"{", if_generation_match=None)
    expect(page.get_by_text("<img src=x onerror=document.title=").first).to_be_visible()
    expect(row(page, "production", "broken").locator(".state")).to_have_text("malformed")  # type: ignore[attr-defined]
    assert page.title() == "Indexes"


def test_a_sign_in_that_has_expired_is_said_and_what_to_do(page: Page, board: Running) -> None:
    page.context.clear_cookies()
    opened_one = page.get_by_role("button", name="clothing in production")
    opened_one.click()
    expect(page.locator("tr.details:visible .bad")).to_contain_text("open the address that indexpush board printed")
    page.evaluate("import('/page/api.js').then(api => api.listen(() => {}, why => { document.title = why; }))")
    expect(page).to_have_title(re.compile("your sign-in has expired"))
    assert board.url


def test_the_keyboard_reaches_what_one_looks_for_first_and_then_row_after_row(page: Page) -> None:
    order, focused = [], page.locator(":focus")
    for _ in range(8):
        page.keyboard.press("Tab")
        order.append(focused.evaluate("e => e.ariaLabel || e.labels?.[0]?.innerText || e.innerText"))
    assert order[0] == "Skip to the indexes"
    assert "Filter by name" in order[1]
    assert order[2:5] == ["All", "production", "staging"]
    assert order[5:] == ["toys in production", "clothing in production", "clothing in staging"]


@pytest.mark.parametrize("width", [1280, 360])
def test_by_keyboard_a_row_is_in_sight_below_the_bar(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 260})
    for key in ("Tab", "Enter", "Tab"):  # to the rows, and to the first of them
        page.keyboard.press(key)
    first = page.get_by_role("button", name="toys in production")
    expect(first).to_be_focused()
    bar, row = page.locator(".bar").bounding_box(), first.bounding_box()
    assert bar is not None
    assert row is not None
    assert row["y"] >= bar["y"] + bar["height"]


def test_a_server_that_is_gone_is_said(browser: Browser, operator: Operator) -> None:
    shop(operator)
    with faultless_page(browser) as page:
        with running(operator, SIGN_IN) as board:
            page.goto(f"{board.url}/?key={SIGN_IN.secret}")
            expect(page.locator("#live-text")).to_have_text("live")
        expect(page.locator("#live-text")).to_contain_text("doesn't answer")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_board_fits_its_window_and_every_control_has_a_name(
    browser: Browser, board: Running, operator: Operator, width: int, scheme: str
) -> None:
    target = Target("production", "a-rather-long-name-of-an-index-of-things")
    operator.deployed(operator.build("b" * 60, index=target.index), target=target)
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    with faultless_page(context) as page:
        page.goto(f"{board.url}/?key={SIGN_IN.secret}")
        opened(page, "production", "clothing")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for control in page.locator(":is(button, input, select):visible").all():
            assert control.evaluate("e => e.labels?.[0]?.textContent || e.textContent || e.ariaLabel"), control
    context.close()


def test_what_changed_in_a_build_is_shown_with_the_items_that_changed_most(page: Page, operator: Operator) -> None:
    upload(operator)
    opened(page, "production", "clothing")
    page.get_by_role("button", name="What changed").click()
    shown = page.locator(".diff:visible")
    expect(shown).to_contain_text("against b1: 1 items came, 61 went, 0 changed their category")
    expect(shown).to_contain_text("80.0 % of the first ten neighbours are the same, of 20 asked")
    expect(shown).to_contain_text("bag-1, bags: 10 % the same")
    expect(shown.locator(".pictures").nth(0)).to_have_text("beforebag-2")
    expect(shown.locator(".pictures").nth(1)).to_have_text("nowbag-3")


def test_a_build_that_was_stopped_waits_on_top_with_its_reasons_and_may_be_committed_from_there(
    page: Page, operator: Operator
) -> None:
    b3 = operator.build("b3")
    upload(operator, replace(FOUND, prefix=b3, against=IndexPrefix("clothing", "b2")))
    operator.clock.moment += timedelta(seconds=31)  # a diff is no commit, and is looked for every 30 s
    expect(row(page, "production", "clothing")).to_contain_text("b3 waits for a person")  # type: ignore[arg-type]
    expect(page.locator("#summary")).to_have_text("3 indexes, 2 need a person")
    opened(page, "production", "clothing")
    waiting = page.locator(".stopped")
    expect(waiting).to_contain_text("b3 waits for a person")
    expect(waiting).to_contain_text("categories: 'hats' lost all")
    expect(waiting).not_to_contain_text("made by v2")  # it was announced
    waiting.get_by_role("button", name="Commit it anyway").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("commits indexes/clothing/b3")
    dialog.get_by_label("Why?").fill("hats are sold elsewhere now")
    dialog.get_by_role("button", name="Commit").click()
    expect(dialog).to_be_hidden()
    assert operator.live()["index_prefix"] == "indexes/clothing/b3"
    expect(page.locator(".stopped")).to_have_count(0)
