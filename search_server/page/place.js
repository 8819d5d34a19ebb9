// Where a person was on the page: an entry of the history remembers how far it was scrolled and which card was opened.

history.scrollRestoration = "manual"; // the browser would scroll before there is anything to scroll to

export function rememberPlace(link) {
  const list = link.closest("[id]")?.id ?? null;
  history.replaceState({ top: scrollY, list, id: link.dataset.id ?? null }, "");
}

// Returns whether there was such a place, and the page is there again.
export function returnToPlace(place) {
  if (!place) return false;
  const card = place.list && place.id !== null ? cardOf(place.list, place.id) : null;
  card?.focus({ preventScroll: true });
  scrollTo({ top: place.top, behavior: "instant" });
  return true;
}

export function cardOf(list, id) {
  return document.querySelector(`#${CSS.escape(list)} .card[data-id="${CSS.escape(id)}"]`);
}
