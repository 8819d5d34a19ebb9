// The page: which product or photo is asked about stands in the address, so back and reload do what people expect.

import * as api from "./api.js";
import { card, chip, element, facts, fillPicture, itemName, regionBox, useItemImages } from "./view.js";

const NEIGHBORS = 12;
const PAGE = 60;
const LOOK_AGAIN_MS = 4000;

const at = (id) => document.getElementById(id);
const state = { status: null, category: null, next: null, photo: null, question: 0 };

// --- products -------------------------------------------------------------------------------------------------------

async function showProducts(more = false) {
  const page = await api.items(state.category, more ? state.next : null, PAGE);
  state.next = page.next;
  const cards = page.items.map(card);
  if (more) at("products").append(...cards);
  else at("products").replaceChildren(...cards);
  at("more").hidden = page.next === null;
  at("products-title").textContent = state.category ?? "All products";
}

function showCategories() {
  const { categories, items } = state.status;
  const choose = (category) => () => {
    state.category = category;
    showCategories();
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
  try {
    const begun = performance.now();
    const answer = await answering;
    if (question !== state.question) return null;
    if (at("notice").querySelector(".bad")) at("notice").replaceChildren(); // what went wrong before is over
    const neighbors = answer.regions?.[0]?.neighbors ?? answer.neighbors;
    at("asked-meta").textContent =
      `${neighbors.length} most similar, in ${Math.round(performance.now() - begun)} ms, by generation ${answer.generation}`;
    at("neighbors").replaceChildren(...neighbors.map(card));
    return answer;
  } catch (error) {
    if (question === state.question) hideAnswer();
    throw error;
  } finally {
    if (question === state.question) section.classList.remove("waiting");
  }
}

function hideAnswer() {
  state.question += 1;
  at("answer").hidden = true;
  document.title = "Similar products";
}

async function showItem(id) {
  fillPicture(at("asked-picture"), id);
  const within = at("same-category-box").checked ? state.itemCategory : null;
  const answer = await showAnswer("Similar to", itemName(id), api.similar(id, NEIGHBORS, within));
  if (answer) {
    state.itemCategory = answer.category;
    at("same-category-text").textContent = `Only ${answer.category}`;
    at("same-category").hidden = false;
  }
}

async function showPhoto(file) {
  const image = element("img", { alt: "your photo", src: URL.createObjectURL(file) });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  at("asked-picture").replaceChildren(image);
  at("same-category").hidden = true;
  const answer = await showAnswer("Similar to", "Your photo", api.searchWithPhoto(file, NEIGHBORS));
  await image.decode().catch(() => {}); // without its size nobody knows where the boxes are
  if (answer?.regions?.length && image.isConnected && image.naturalWidth) showRegions(image, answer.regions);
}

function showRegions(image, regions) {
  const boxes = regions.map((region, number) => regionBox(image, region, () => choose(number)));
  const choose = (number) => {
    boxes.forEach((box, each) => (box.ariaPressed = String(each === number)));
    at("neighbors").replaceChildren(...regions[number].neighbors.map(card));
  };
  image.classList.add("whole");
  image.after(...boxes);
  choose(0);
}

async function route(scroll = true) {
  const id = new URLSearchParams(location.hash.slice(1)).get("item");
  if (id !== null) {
    state.photo = null;
    if (state.item !== id) {
      state.item = id;
      at("same-category-box").checked = false;
      at("same-category").hidden = true;
    }
    await showItem(id);
  } else if (location.hash === "#photo" && state.photo) {
    state.item = null;
    await showPhoto(state.photo);
  } else {
    state.item = null;
    hideAnswer();
    return;
  }
  if (scroll) {
    at("answer").scrollIntoView({ behavior: "smooth", block: "start" });
    at("answer-title").focus({ preventScroll: true });
  }
}

function take(file) {
  if (!file) return;
  if (!file.type.startsWith("image/")) {
    notice(`“${file.name}” isn't a picture.`, true);
    return;
  }
  state.photo = file;
  if (location.hash === "#photo") tell(route());
  else location.hash = "photo";
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
    at("index-name").textContent = itemName(index);
    const photos = state.status.models.length > 0;
    at("photo").hidden = !photos;
    at("hint").textContent = `Choose a product to see the most similar ones${photos ? ", or drop a photo anywhere" : ""}.`;
    at("facts").replaceChildren(...facts(state.status));
    useItemImages(state.status.item_image_url);
    if (before?.generation !== generation) {
      if (!state.status.categories.some(({ category }) => category === state.category)) state.category = null;
      showCategories();
      await showProducts();
      await route(before === null);
      if (before) notice(`A new index is live: generation ${generation}, build ${prefix}.`);
    }
  } catch (error) {
    if (error.code === "item-unknown") {
      notice(error.message, true); // the item that is shown isn't in the new build
      return;
    }
    at("live").className = "live down";
    at("live-text").textContent = `no answer: ${error.message}`;
  } finally {
    state.looking = false;
  }
}

function notice(text, bad = false) {
  at("notice").replaceChildren(element("p", { className: bad ? "bad" : "" }, text));
  clearTimeout(state.noticeTimer);
  state.noticeTimer = setTimeout(() => at("notice").replaceChildren(), 12_000);
}

function tell(promise) {
  promise.catch((error) => notice(error.message, true));
}

// --- wiring ---------------------------------------------------------------------------------------------------------

at("more").addEventListener("click", () => tell(showProducts(true)));
at("same-category-box").addEventListener("change", () => state.item && tell(showItem(state.item)));
at("file").addEventListener("change", (event) => {
  take(event.target.files[0]);
  event.target.value = "";
});
document.addEventListener("paste", (event) => take([...event.clipboardData.files][0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => event.relatedTarget ?? at("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  take(event.dataTransfer.files[0]);
});
addEventListener("hashchange", () => tell(route()));
api.onGeneration(() => look());

await look();
setInterval(() => document.hidden || look(), LOOK_AGAIN_MS);
