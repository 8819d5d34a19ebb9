// The photo that was searched with, kept for a reload: in this tab alone, and gone with it.

const KEY = "photo";

export async function keepPhoto(photo) {
  try {
    const bytes = new Uint8Array(await photo.arrayBuffer());
    let text = "";
    for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
    sessionStorage.setItem(KEY, JSON.stringify({ type: photo.type, bytes: btoa(text) }));
  } catch {
    sessionStorage.removeItem(KEY); // no room for it: then it doesn't outlive a reload
  }
}

export function keptPhoto() {
  try {
    const { type, bytes } = JSON.parse(sessionStorage.getItem(KEY));
    return new Blob([Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0))], { type });
  } catch {
    return null;
  }
}
