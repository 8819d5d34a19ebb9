// From data to elements. Text always becomes a text node, so no product name can become markup.

// Below this, neighbours in the demo's catalogue are more often of another kind than of the same one.
const WEAK_PERCENT = 60;

const percentOf = (score) => Math.max(0, Math.round(score * 100));

export const isWeak = (score) => percentOf(score) < WEAK_PERCENT;

let template = "";
let names = {};

export function useItemImages(url) {
  template = url;
}

export function useItemNames(found) {
  names = found;
}

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// As the catalogue has it, or else the id as it is.
export function itemName(id) {
  return Object.hasOwn(names, id) ? String(names[id]) : id;
}

export function indexName(index) {
  return index.replaceAll(/[-_]+/g, " ").trim();
}

export function fillPicture(holder, id) {
  const letters = element("span", { className: "letters", ariaHidden: "true" }, initials(id));
  if (!template) {
    holder.style.backgroundColor = tint(id);
    holder.replaceChildren(letters);
    return;
  }
  const image = element("img", { alt: "", loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => {
    holder.style.backgroundColor = tint(id);
    image.replaceWith(letters);
  });
  image.src = template.replaceAll("{id}", encodeURIComponent(id));
  holder.replaceChildren(image);
}

export function card(item) {
  const picture = element("div", { className: "picture" });
  fillPicture(picture, item.id);
  const link = element("a", { className: "card", href: `#item=${encodeURIComponent(item.id)}` }, picture);
  if (item.score !== undefined) {
    const percent = percentOf(item.score);
    const weak = isWeak(item.score);
    const bar = element("i");
    bar.style.width = `${percent}%`;
    const said = element("span", { className: "score", role: "img" }, weak ? `${percent}% · weak` : `${percent}%`);
    said.ariaLabel = `similarity ${percent} percent${weak ? ", a weak match" : ""}`;
    picture.append(said);
    link.classList.toggle("weak", weak);
    link.append(element("div", { className: "meter", ariaHidden: "true" }, bar));
  }
  link.append(
    element(
      "div",
      { className: "words" },
      element("span", { className: "name" }, itemName(item.id)),
      element("span", { className: "category" }, item.category),
    ),
  );
  link.dataset.id = item.id;
  return element("li", {}, link);
}

// A box to click, over an image that stands whole in the middle of a square.
export function regionBox(image, region, choose) {
  const longest = Math.max(image.naturalWidth, image.naturalHeight);
  const [width, height] = [image.naturalWidth / longest, image.naturalHeight / longest];
  const [left, top, right, bottom] = region.box;
  const made = element("button", { type: "button", className: "region", title: region.category });
  made.ariaLabel = `${region.category}, in the photo`;
  made.style.left = `${100 * ((1 - width) / 2 + left * width)}%`;
  made.style.top = `${100 * ((1 - height) / 2 + top * height)}%`;
  made.style.width = `${100 * (right - left) * width}%`;
  made.style.height = `${100 * (bottom - top) * height}%`;
  made.addEventListener("click", choose);
  return made;
}

export function chip(text, count, pressed, choose) {
  const made = element("button", { type: "button", ariaPressed: String(pressed) }, text);
  if (count !== null) made.append(" ", element("small", {}, count.toLocaleString("en")));
  made.addEventListener("click", choose);
  return made;
}

export function facts(status) {
  const shown = {
    Generation: status.generation,
    Build: status.index_prefix,
    Items: status.items.toLocaleString("en"),
    Model: status.models.map(({ prefix }) => prefix.replace("models/", "")).join(", ") || "none: vectors of its own",
    Dimensions: status.dimensions ?? "by category",
    [`Recall@${status.recall.at}`]: status.recall.value.toFixed(3),
    Built: new Date(status.created).toLocaleString(),
    Digest: `${status.index_digest.slice(0, 19)}…`,
  };
  return Object.entries(shown).map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, String(value))),
  );
}

function initials(id) {
  const words = itemName(id).split(/[\s_/-]+/);
  return (words[0].charAt(0) + (words[1]?.charAt(0) ?? "")).toUpperCase();
}

function tint(id) {
  let hash = 0;
  for (const letter of id) hash = (hash * 31 + letter.codePointAt(0)) % 360;
  return `hsl(${hash} 38% 86%)`;
}
