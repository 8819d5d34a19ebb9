// The board: rows come by themselves; a row opens; a change is explained before it is made, and is made with a reason.

import * as api from "./api.js";
import { buildOf, cells, comparison, diff, diffButton, elapsed, element, shadow, sparks, timeline } from "./view.js";

const at = (id) => document.getElementById(id);
const rows = new Map(); // by name: what the server said
const shown = new Map(); // by name: its <tr>, the <tr> of its details, and what was rendered
const state = { environment: null, late: 0, opened: new Set(), asked: null };

const now = () => Date.now() + state.late;

// --- rows -----------------------------------------------------------------------------------------------------------

function onEvent(event) {
  state.late = Date.parse(event.now) - Date.now();
  if (event.all) rows.clear();
  for (const name of event.gone) rows.delete(name);
  for (const [name, row] of Object.entries(event.rows)) {
    const before = rows.get(name);
    rows.set(name, row);
    // how a rollout goes comes every few seconds, and stands in no receipt yet
    if (state.opened.has(name) && shown.has(name) && committed(before) !== committed(row)) tell(fillDetails(name));
  }
  const live = at("live");
  live.className = `live ${event.problem ? "down" : "up"}`;
  at("live-text").textContent = event.problem || "live";
  show();
}

const committed = (row) => JSON.stringify({ ...row, rollout: null });

function show() {
  const wanted = at("filter").value.trim().toLowerCase();
  const names = [...rows.keys()].filter((name) => fits(rows.get(name), wanted)).sort(order);
  const body = at("rows");
  for (const [name, each] of shown) {
    if (!names.includes(name)) {
      each.row.remove();
      each.details.remove();
      shown.delete(name);
    }
  }
  let before = null;
  for (const name of names) {
    const each = shown.get(name) ?? add(name);
    render(name, each);
    const next = before ? before.nextSibling : body.firstChild;
    if (each.row !== next) body.insertBefore(each.row, next); // a row that stands where it belongs keeps its focus
    if (each.row.nextSibling !== each.details) body.insertBefore(each.details, each.row.nextSibling);
    before = each.details;
  }
  summarize(names);
}

function fits(row, wanted) {
  if (state.environment !== null && row.environment !== state.environment) return false;
  const text = [row.name, row.index, row.environment, row.commit?.index_prefix, row.serving?.index_prefix, row.commit?.by];
  return text.some((each) => each?.toLowerCase().includes(wanted));
}

// what needs a person comes first
function order(one, other) {
  const need = (rows.get(other).attention.length > 0) - (rows.get(one).attention.length > 0);
  return need || one.localeCompare(other);
}

function add(name) {
  const details = element("tr", { className: "details", hidden: true }, element("td", { colspan: "6" }));
  const each = { row: element("tr"), details, said: null };
  shown.set(name, each);
  if (state.opened.has(name)) open(name);
  return each;
}

function render(name, each) {
  const said = JSON.stringify(rows.get(name));
  if (said === each.said) return;
  const focused = each.row.contains(document.activeElement);
  each.said = said;
  each.row.replaceChildren(...cells(rows.get(name), now(), () => toggle(name)));
  const button = each.row.querySelector(".open");
  button?.setAttribute("aria-expanded", String(state.opened.has(name)));
  if (focused) button?.focus();
  showComparison(name, each);
}

function showComparison(name, each) {
  each.details.querySelector(".comparison")?.replaceChildren(...comparison(rows.get(name).rollout?.comparison), ...shadow(rows.get(name), now()));
}

function summarize(names) {
  const environments = [...new Set([...rows.values()].map((row) => row.environment).filter(Boolean))].sort();
  const choice = [null, ...environments];
  const chips = at("environments");
  if (chips.dataset.of !== JSON.stringify(choice)) {
    chips.dataset.of = JSON.stringify(choice);
    chips.replaceChildren(...choice.map((each) => element("button", { type: "button", onclick: () => choose(each) }, each ?? "All")));
  }
  [...chips.children].forEach((chip, n) => chip.setAttribute("aria-pressed", String(choice[n] === state.environment)));
  const need = names.filter((name) => rows.get(name).attention.length > 0).length;
  const summary = at("summary");
  const words = `${names.length} ${names.length === 1 ? "index" : "indexes"}, ${need ? `${need} need${need === 1 ? "s" : ""} a person` : "none needs a person"}`;
  if (summary.textContent !== words) summary.textContent = words;
  summary.classList.toggle("bad", need > 0);
  at("nothing").hidden = names.length > 0;
  at("nothing").textContent = rows.size ? "Nothing fits the filter." : "Nothing is committed in this bucket yet.";
}

function choose(environment) {
  state.environment = environment;
  show();
}

// --- one index ------------------------------------------------------------------------------------------------------

function toggle(name) {
  if (state.opened.has(name)) {
    state.opened.delete(name);
    shown.get(name).details.hidden = true;
  } else {
    state.opened.add(name);
    open(name);
  }
  shown.get(name).row.querySelector(".open").setAttribute("aria-expanded", String(state.opened.has(name)));
}

function open(name) {
  shown.get(name).details.hidden = false;
  tell(fillDetails(name));
}

async function fillDetails(name) {
  const row = rows.get(name);
  const cell = shown.get(name).details.firstChild;
  if (!cell.hasChildNodes()) cell.append(element("p", { className: "hint" }, "reading…"));
  try {
    const { receipts, compared } = await api.index(row.environment, row.index);
    const { stopped } = row;
    const onDiff = (build, place) => tell(fillDiff(row.index, build, place));
    const focused = [...cell.querySelectorAll("button")].indexOf(document.activeElement);
    cell.replaceChildren(actions(name), element("section", { className: "comparison" }), ...(stopped ? [waiting(name, stopped, onDiff)] : []), ...[sparks(receipts)].filter(Boolean),
      element("h3", {}, "What became of its commits"),
      receipts.length ? timeline(receipts, now(), compared, onDiff) : element("p", { className: "hint" }, "Nobody has said yet what became of a commit."));
    showComparison(name, shown.get(name));
    cell.querySelectorAll("button")[focused]?.focus();
  } catch (error) {
    cell.replaceChildren(actions(name), element("p", { className: "bad" }, error.message));
  }
}

async function fillDiff(index, build, place, against) {
  if (place.hasChildNodes()) return;
  const words = element("p", { className: "hint" }, "comparing…");
  place.append(words);
  let found;
  try {
    found = diff(await api.diff(index, build, against));
  } catch (error) {
    found = [element("p", { className: "bad" }, `can't be compared: ${error.message}`)];
  }
  if (words.parentNode === place) place.replaceChildren(...found); // else something else was asked meanwhile
}

// a build that the batch published and did not commit, because it differs too much
function waiting(name, stopped, onDiff) {
  const commit = element("button", { type: "button", className: "button quiet", onclick: () => begin(name, { action: "commit", build: stopped.build, release: true }) }, "Commit it anyway");
  return element("section", { className: "stopped" }, element("h3", {}, `${stopped.build} waits for a person`),
    ...stopped.why.map((why) => element("p", { className: "bad" }, why)), element("p", {}, commit), ...diffButton(stopped.build, onDiff));
}

function actions(name) {
  const row = rows.get(name);
  const button = (words, action) => element("button", { type: "button", className: "button quiet", onclick: () => begin(name, action) }, words);
  const others = [...rows.values()].filter((each) => each.index === row.index && each.environment !== row.environment && each.serving);
  return element("div", { className: "actions" },
    button("Redeploy", { action: "redeploy" }),
    button("Roll back", { action: "rollback", release: true }),
    others.length ? button("Promote to here", { action: "promote", sources: others.map((each) => each.environment), release: true }) : null,
    row.commit.hold ? button("Release the hold", { action: "redeploy", release: true }) : button("Hold", { action: "redeploy", hold: true }));
}

// --- a change -------------------------------------------------------------------------------------------------------

const TITLES = { redeploy: "Redeploy", rollback: "Roll back", promote: "Promote", commit: "Commit a build of" };

function begin(name, { sources = [], ...asked }) {
  const row = rows.get(name);
  const word = asked.action !== "redeploy" ? TITLES[asked.action] : asked.hold ? "Hold" : asked.release ? "Release the hold of" : "Redeploy";
  state.asked = { environment: row.environment, index: row.index, seen: row.commit.generation, ...asked };
  at("dialog-title").textContent = `${word} ${row.index} in ${row.environment}`;
  at("dialog-what").textContent = row.commit.hold && asked.release && asked.action !== "redeploy"
    ? `It is on hold by ${row.commit.by || "somebody"}${row.commit.reason ? `: ${row.commit.reason}` : ""}. Going on ends that hold; ask them first.` : "";
  at("confirm").textContent = word.replace(" a build of", "").replace(" of", "");
  at("reason").value = "";
  const choice = at("dialog-choice");
  choice.replaceChildren();
  if (sources.length) {
    state.asked.source = sources[0];
    const select = element("select", { onchange: () => { state.asked = { ...state.asked, source: select.value }; tell(explain()); } },
      ...sources.map((each) => element("option", { value: each }, each)));
    choice.append(element("label", {}, "What serves in ", select));
  }
  if (asked.action !== "redeploy") {
    const hold = element("input", { type: "checkbox", onchange: () => { state.asked = { ...state.asked, hold: hold.checked }; tell(explain()); } });
    choice.append(element("label", { className: "check" }, hold, "Hold it: the next batch doesn't replace it"));
  }
  at("dialog").showModal();
  at("reason").focus();
  tell(explain());
}

async function explain() {
  const asked = state.asked;
  at("confirm").disabled = true;
  at("dialog-error").textContent = "";
  at("dialog-notes").replaceChildren(element("li", {}, "looking…"));
  at("dialog-diff").replaceChildren();
  try {
    const would = await api.change({ ...asked, dry_run: true });
    if (state.asked !== asked) return;
    const before = would.replaced?.index_prefix;
    const lines = [`commits ${would.index_prefix}${would.hold ? ", on hold" : ""}`];
    if (before && before !== would.index_prefix) {
      lines.push(`in place of ${before}`);
      tell(fillDiff(asked.index, buildOf(would.index_prefix), at("dialog-diff"), buildOf(before)));
    }
    at("dialog-notes").replaceChildren(...[...lines, ...would.notes.filter((note) => !note.includes("--hold"))].map((line) => element("li", {}, line)));
    at("confirm").disabled = false;
  } catch (error) {
    if (state.asked !== asked) return;
    at("dialog-notes").replaceChildren();
    at("dialog-error").textContent = error.message;
  }
}

async function confirm(event) {
  event.preventDefault();
  at("confirm").disabled = true;
  at("dialog-error").textContent = "";
  try {
    await api.change({ ...state.asked, reason: at("reason").value });
    at("dialog").close();
  } catch (error) {
    at("dialog-error").textContent = error.message;
    at("confirm").disabled = false;
  }
}

function tell(promise) {
  promise.catch((error) => {
    at("live").className = "live down";
    at("live-text").textContent = error.message;
  });
}

at("form").addEventListener("submit", confirm);
at("cancel").addEventListener("click", () => at("dialog").close());
at("dialog").addEventListener("close", () => { state.asked = null; });
at("filter").addEventListener("input", show);
setInterval(() => { for (const each of document.querySelectorAll("[data-since]")) each.textContent = elapsed(each.dataset.since, now()); }, 1000);
setInterval(() => { for (const each of shown.values()) each.said = null; show(); }, 20_000); // ages go on

api.listen(onEvent, (why) => {
  at("live").className = "live down";
  at("live-text").textContent = why;
});
