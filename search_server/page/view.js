// From data to elements. Text always becomes a text node, so no product name can become markup.

let template = "";

export function useItemImages(url) {
  template = url;
}

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function itemName(id) {
  const words = id.replaceAll(/[-_/]+/g, " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
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
    const percent = Math.max(0, Math.round(item.score * 100));
    const bar = element("i");
    bar.style.width = `${percent}%`;
    picture.append(element("span", { className: "score", ariaLabel: `similarity ${percent} percent` }, `${percent}%`));
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
  const made = element("button", { type: "button", className: "region", title: region.category, ariaLabel: region.category });
  made.style.left = `${100 * ((1 - width) / 2 + left * width)}%`;
  made.style.top = `${100 * ((1 - height) / 2 + top * height)}%`;
  made.style.width = `${100 * (right - left) * width}%`;
  made.style.height = `${100 * (bottom - top) * height}%`;
  made.addEventListener("click", choose);
  return made;
}

export function chip(text, count, pressed, choose) {
  const made = element("button", { type: "button", ariaPressed: String(pressed) }, text);
  made.append(" ", element("small", {}, count.toLocaleString("en")));
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
  const words = itemName(id).split(" ");
  return (words[0].charAt(0) + (words[1]?.charAt(0) ?? "")).toUpperCase();
}

function tint(id) {
  let hash = 0;
  for (const letter of id) hash = (hash * 31 + letter.codePointAt(0)) % 360;
  return `hsl(${hash} 38% 86%)`;
}
