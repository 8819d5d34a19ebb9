// The server's API. Every answer names the generation that gave it; whoever listens learns when it changes.

const SMALL_ENOUGH = 1_500_000; // bytes; a larger photo is made smaller before it travels
const EDGE = 1024; // pixels

let generation = null;
const listeners = [];

export function onGeneration(listener) {
  listeners.push(listener);
}

export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// What a shopper reads; the server's own words are for whoever runs it.
const WORDS = {
  "image-unreadable": "This file can't be read as a picture. Try a JPEG, PNG or WebP.",
  "media-unsupported": "This file can't be read as a picture. Try a JPEG, PNG or WebP.",
  "body-too-large": "This photo is too large: 10 MB at most.",
  "request-too-slow": "The photo took too long to arrive. Try again, or a smaller one.",
  "picture-lost": "This photo could not be looked at. Try another one.",
  "no-model": "Photos can't be searched here: choose a product instead.",
  "item-unknown": "This product isn't in the shop any more.",
  overloaded: "Many people are searching just now. Try again in a moment.",
  "not-ready": "The search is just starting. Try again in a moment.",
};
const AWAY = "The search can't be reached. Check your connection, and try again.";
const WRONG = "Something went wrong. Try again, or choose another product.";

export const inWords = (error) => (error instanceof Refused ? (WORDS[error.code] ?? WRONG) : AWAY);

async function ask(path, options = {}) {
  const answer = await fetch(path, { cache: "no-store", ...options });
  const named = answer.headers.get("x-indexpush-generation");
  if (named && named !== generation) {
    const before = generation;
    generation = named;
    if (before !== null) listeners.forEach((listener) => listener(before, named));
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const error = body.error ?? {};
    throw new Refused(answer.status, error.code, error.message ?? `the server answered ${answer.status}`);
  }
  return body;
}

function query(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

export const status = () => ask("/v1/status");

export const items = (category, after, limit) => ask(`/v1/items${query({ category, after, limit })}`);

export const similar = (id, k, category) =>
  ask(`/v1/items/${encodeURIComponent(id)}/similar${query({ k, category })}`);

// Names by id. Without any, ids are shown: nobody needs names to search.
export async function names(url) {
  try {
    const answer = await fetch(url, { credentials: "omit" });
    return answer.ok ? await answer.json() : {};
  } catch {
    return {};
  }
}

export async function searchWithPhoto(photo, k) {
  return ask(`/v1/search${query({ k })}`, {
    method: "POST",
    body: photo,
    headers: { "content-type": photo.type.startsWith("image/") ? photo.type : "image/jpeg" },
  });
}

export async function smaller(file) {
  if (file.size <= SMALL_ENOUGH) return file;
  try {
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    const scale = Math.min(1, EDGE / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(bitmap.width * scale);
    canvas.height = Math.round(bitmap.height * scale);
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff"; // as the server lays a transparent picture on white
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    return await new Promise((done) => canvas.toBlob((blob) => done(blob ?? file), "image/jpeg", 0.92));
  } catch {
    return file; // the server says what is wrong with it
  }
}
