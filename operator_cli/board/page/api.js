// What the page asks of its server. Errors carry the server's words, which are for people.

export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Refused(0, "unreachable", "the board's server can't be reached");
  }
  const type = answer.headers.get("content-type") ?? "";
  // a sign-in that has expired answers with a page of its own, or with a redirect to one
  if (!type.startsWith("application/json")) throw new Refused(401, "sign-in-needed", "your sign-in has expired: reload the page");
  const body = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, body.error.code, body.error.message);
  return body;
}

export const index = (environment, name) => ask(`/api/indexes/${encodeURIComponent(environment)}/${encodeURIComponent(name)}`);

// against: another build than what served when it was made
export const diff = (index, build, against) =>
  ask(`/api/diffs/${encodeURIComponent(index)}/${encodeURIComponent(build)}${against ? `?against=${encodeURIComponent(against)}` : ""}`);

export const change = (asked) =>
  ask("/api/changes", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(asked) });

// Calls back with each event, and with why there are none now; the browser connects again by itself, unless it was refused.
export function listen(onEvent, onSilence) {
  const source = new EventSource("/api/events");
  source.onmessage = (message) => onEvent(JSON.parse(message.data));
  source.onerror = async () => {
    onSilence("the board's server doesn't answer; what stands here is old");
    if (source.readyState !== EventSource.CLOSED) return;
    onSilence(await refusal());
    setTimeout(() => listen(onEvent, onSilence), 3000);
  };
}

// why the server refuses to tell what changes: an EventSource doesn't say
async function refusal() {
  const given = new AbortController();
  try {
    const answer = await fetch("/api/events", { cache: "no-store", redirect: "manual", signal: given.signal });
    const type = answer.headers.get("content-type") ?? "";
    if (type.startsWith("text/event-stream")) return "connecting…";
    if (answer.status === 401 || !type.startsWith("application/json")) return "your sign-in has expired: reload the page, or open the address that indexpush board printed; what stands here is old";
    return `${(await answer.json()).error.message}; what stands here is old`;
  } catch {
    return "the board's server doesn't answer; what stands here is old";
  } finally {
    given.abort();
  }
}
