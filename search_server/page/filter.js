// Products whose name has all the words of a text: the server's list is read on until there are enough, or too much was read.

import * as api from "./api.js";
import { itemName } from "./view.js";

const AT_ONCE = 500;
const PAGES = 20;

// Returns { items, next, looked }; next: to go on from, null at the end; looked: at how many products.
export async function filtered(text, category, after, limit) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const has = ({ id }) => {
    const name = `${itemName(id)} ${id}`.toLowerCase();
    return words.every((word) => name.includes(word));
  };
  const items = [];
  let looked = 0;
  for (let pages = 0; pages < PAGES; pages += 1) {
    const page = await api.items(category, after, AT_ONCE);
    const found = page.items.filter(has);
    const rest = limit - items.length;
    items.push(...found.slice(0, rest));
    if (found.length > rest) return { items, next: items.at(-1).id, looked };
    looked += page.items.length;
    after = page.next;
    if (after === null || items.length === limit) break;
  }
  return { items, next: after, looked };
}
