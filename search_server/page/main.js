// The page: which product or photo is asked about stands in the address, so back and reload do what people expect.

import * as api from "./api.js";
import { filtered } from "./filter.js";
import { keepPhoto, keptPhoto } from "./photo.js";
import { cardOf, rememberPlace, returnToPlace } from "./place.js";
import {
  card, chip, element, facts, fillPicture, indexName, isWeak, itemName, regionBox, useItemImages, useItemNames,
} from "./view.js";

const NEIGHBORS = 12;
const PAGE = 60;
const LOOK_AGAIN_MS = 4000;
const TYPING_MS = 200;

const at = (id) => document.getElementById(id);
const state = { status: null, category: null, next: null, photo: null, question: 0, list: 0, namesUrl: "" };

// --- products -------------------------------------------------------------------------------------------------------

async function showProducts(more = false) {
  const list = ++state.list; // a slower list of an earlier choice is dropped
  const text = at("filter").value.trim();
  const after = more ? state.next : null;
  const page = await (text ? filtered(text, state.category, after, PAGE) : api.items(state.category, after, PAGE));
  if (list !== state.list) return;
  state.next = page.next;
  const cards = page.items.map(card);
  if (more) at("products").append(...cards);
  else at("products").replaceChildren(...cards);
  at("more").hidden = page.next === null;
  at("products-title").textContent = state.category ?? "All products";
  at("found").textContent = text ? foundInWords(at("products").childElementCount, page) : "";
}

function foundInWords(count, { next, looked }) {
  const products = count === 1 ? "1 product" : `${count} products`;
  if (next === null) return count ? `${products} found.` : "No product is called that.";
  return count ? `${products} so far.` : `None among the first ${looked.toLocaleString("en")}: “Show more” looks further.`;
}

function showCategories() {
  const { categories, items } = state.status;
  const choose = (category) => () => {
    state.category = category;
    showCategories();
    at("categories").querySelector("[aria-pressed=true]").focus(); // the button that was pressed is another one now
    tell(showProducts());
  };
  at("categories").replaceChildren(
    chip("All", items, state.category === null, choose(null)),
    ...categories.map((each) => chip(each.category, each.items, state.category === each.category, choose(each.category))),
  );
}

// --- answers --------------------------------------------------------------------------------------------------------

async function showAnswer(kicker, title, answering) {
  const question = ++state.question; // a slower answer to an earlier question is dropped
  const section = at("answer");
  section.hidden = false;
  section.classList.add("waiting");
  at("asked-kicker").textContent = kicker;
  at("answer-title").textContent = title;
  document.title = `${title} – similar products`;
  at("things").hidden = true;
  at("asked-picture").classList.remove("things");
  try {
    const begun = performance.now();
    const answer = await answering;
    if (question !== state.question) return null;
    if (at("notice").querySelector(".bad")) at("notice").replaceChildren(); // what went wrong before is over
    state.told = `in ${Math.round(performance.now() - begun)} ms, by generation ${answer.generation}`;
    showNeighbors(answer.regions?.[0]?.neighbors ?? answer.neighbors);
    return answer;
  } catch (error) {
    if (question === state.question) hideAnswer();
    throw error;
  } finally {
    if (question === state.question) section.classList.remove("waiting");
  }
}

function showNeighbors(neighbors) {
  const weak = neighbors.length && isWeak(neighbors[0].score) ? "; nothing here is very similar" : "";
  at("asked-meta").textContent = `${neighbors.length} most similar, ${state.told}${weak}`;
  at("neighbors").replaceChildren(...neighbors.map(card));
}

function hideAnswer() {
  state.question += 1;
  at("answer").hidden = true;
  document.title = "Similar products";
}

async function showItem(id, category) {
  fillPicture(at("asked-picture"), id);
  at("same-category-box").checked = category !== null;
  const answer = await showAnswer("Similar to", itemName(id), api.similar(id, NEIGHBORS, category));
  if (answer) {
    state.itemCategory = answer.category;
    at("same-category-text").textContent = `Only ${answer.category}`;
    at("same-category").hidden = false;
  }
}

async function showPhoto(photo, chosen) {
  const image = element("img", { alt: "your photo", src: URL.createObjectURL(photo) });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  at("asked-picture").replaceChildren(image);
  at("same-category").hidden = true;
  const answer = await showAnswer("Similar to", "Your photo", api.searchWithPhoto(photo, NEIGHBORS));
  await image.decode().catch(() => {}); // without its size nobody knows where the boxes are
  if (answer?.regions?.length && image.isConnected && image.naturalWidth) showRegions(image, answer.regions, chosen);
}

function showRegions(image, regions, chosen) {
  const show = (number) => {
    for (const buttons of [boxes, chips]) {
      buttons.forEach((button, each) => (button.ariaPressed = String(each === number)));
    }
    showNeighbors(regions[number].neighbors);
  };
  const choose = (number) => {
    stay(`#photo=${number}`);
    show(number);
  };
  const boxes = regions.map((region, number) => regionBox(image, region, () => choose(number)));
  const chips = regions.map((region, number) => chip(region.category, null, false, () => choose(number)));
  image.classList.add("whole");
  image.after(...boxes);
  at("asked-picture").classList.add("things");
  at("things").replaceChildren(...chips);
  at("things").hidden = false;
  show(regions[chosen] ? chosen : 0);
}

// --- where one is ---------------------------------------------------------------------------------------------------

const address = () => new URLSearchParams(location.hash.slice(1));
const stay = (hash) => history.replaceState(history.state, "", hash); // what is chosen within an answer is no step to go back

async function route(moves = true) {
  const place = history.state; // of an entry that was left: it is come back to, or loaded again
  const asked = address();
  const id = asked.get("item");
  if (id !== null) {
    if (state.item !== id) at("same-category").hidden = true;
    state.item = id;
    await showItem(id, asked.get("category"));
  } else if (asked.has("photo") && (state.photo ??= keptPhoto())) {
    state.item = null;
    await showPhoto(state.photo, Number(asked.get("photo")));
  } else {
    const left = state.item;
    state.item = null;
    hideAnswer();
    if (asked.has("photo")) notice("Choose the photo again, please.");
    if (moves && !returnToPlace(place) && left) (cardOf("products", left) ?? at("products-title")).focus();
    return;
  }
  if (moves && !returnToPlace(place)) {
    at("answer").scrollIntoView({ behavior: "smooth", block: "start" });
    at("answer-title").focus({ preventScroll: true });
  }
}

async function take(file) {
  if (!file) return;
  if (!file.type.startsWith("image/")) {
    notice(`“${file.name}” isn't a picture.`, true);
    return;
  }
  state.photo = await api.smaller(file);
  await keepPhoto(state.photo);
  rememberPlace(document.body);
  if (address().has("photo")) {
    history.replaceState(null, "", "#photo");
    await route();
  } else location.hash = "photo";
}

// --- what is served -------------------------------------------------------------------------------------------------

async function look() {
  if (state.looking) return;
  state.looking = true;
  try {
    const before = state.status;
    state.status = await api.status();
    const { generation, index_prefix: prefix, index } = state.status;
    at("live").className = "live up";
    at("live-text").textContent = `generation ${generation} · ${prefix}`;
    at("index-name").textContent = indexName(index);
    const photos = state.status.models.length > 0;
    at("photo").hidden = !photos;
    at("hint").textContent = `Choose a product to see the most similar ones${photos ? ", or drop a photo anywhere" : ""}.`;
    at("facts").replaceChildren(...facts(state.status));
    useItemImages(state.status.item_image_url);
    if (before?.generation !== generation) {
      if (state.status.item_names_url) useItemNames(await api.names(state.status.item_names_url));
      if (!state.status.categories.some(({ category }) => category === state.category)) state.category = null;
      showCategories();
      await showProducts();
      await route(before === null);
      if (before) notice(`A new index is live: generation ${generation}, build ${prefix}.`);
    }
  } catch (error) {
    if (error.code === "item-unknown") {
      noticeOf(error); // the item that is shown isn't in the new build
      return;
    }
    at("live").className = "live down";
    at("live-text").textContent = `no answer: ${error.message}`;
  } finally {
    state.looking = false;
  }
}

function notice(text, bad = false, title = "") {
  at("notice").replaceChildren(element("p", { className: bad ? "bad" : "", title }, text));
  clearTimeout(state.noticeTimer);
  state.noticeTimer = setTimeout(() => at("notice").replaceChildren(), 12_000);
}

const noticeOf = (error) => notice(api.inWords(error), true, error.message);

function tell(promise) {
  promise.catch(noticeOf);
}

// --- wiring ---------------------------------------------------------------------------------------------------------

at("more").addEventListener("click", () => tell(showProducts(true)));
at("filter").addEventListener("input", () => {
  clearTimeout(state.typing);
  state.typing = setTimeout(() => tell(showProducts()), TYPING_MS);
});
at("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says what is asked about
  at("products").focus();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']");
  if (link && link !== at("skip") && !event.defaultPrevented) rememberPlace(link);
});
at("same-category-box").addEventListener("change", ({ target }) => {
  const category = target.checked ? state.itemCategory : null;
  stay(`#${new URLSearchParams({ item: state.item, ...(category !== null && { category }) })}`);
  tell(showItem(state.item, category));
});
at("file").addEventListener("change", (event) => {
  tell(take(event.target.files[0]));
  event.target.value = "";
});
document.addEventListener("paste", (event) => tell(take([...event.clipboardData.files][0])));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => event.relatedTarget ?? at("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  tell(take(event.dataTransfer.files[0]));
});
addEventListener("hashchange", () => tell(route()));
api.onGeneration(() => look());

await look();
setInterval(() => document.hidden || look(), LOOK_AGAIN_MS);
