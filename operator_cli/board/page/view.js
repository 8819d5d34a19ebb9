// How rows, timelines and figures look. Nothing here asks the server, and text is only ever set as text.

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name.startsWith("data-") || name === "scope" || name === "colspan") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [size, unit] = UNITS.find(([each]) => whole >= each) ?? UNITS.at(-1);
  return `${Math.floor(whole / size)} ${unit}`;
}

export function ago(moment, now) {
  const when = element("time", { dateTime: moment, title: new Date(moment).toLocaleString() });
  when.textContent = `${duration((now - Date.parse(moment)) / 1000)} ago`;
  return when;
}

export const bytes = (count) => (count >= 1e9 ? `${(count / 1e9).toFixed(1)} GB` : `${Math.max(1, Math.round(count / 1e6))} MB`);

export const buildOf = (prefix) => prefix?.split("/").at(-1) ?? "nothing";

export function state(row) {
  const bad = row.attention.length > 0;
  const word = row.name ? "ignored" : row.commit.malformed ? "malformed" : row.rollout?.word ?? (row.state === "served" ? "serving" : row.state);
  return element("span", { className: `state ${bad ? "bad" : row.state}` }, word);
}

// where a row's build answers; only what is http or https is a link
function address(row) {
  const url = row.address?.outside ?? row.address?.inside;
  if (!url) return null;
  const words = url.replace(/^https?:\/\//, "").replace(/\/$/, "");
  const title = row.address.outside ? `in the cluster: ${row.address.inside}` : "within the cluster";
  const link = /^https?:\/\//.test(url) ? element("a", { href: url, target: "_blank", rel: "noreferrer", title }, words) : words;
  return element("small", {}, "at ", link);
}

// how a rollout goes; the seconds go on by themselves
function rollout(row, now) {
  const it = row.rollout;
  if (!it) return null;
  const kind = it.canary ? "canary pods" : "new pods";
  const pods = it.pods ? `${it.pods.ready} of ${it.pods.wanted} ${kind} ready` : it.unknown ? "pods unknown" : it.detail;
  const since = it.since ? element("span", { "data-since": it.since }, elapsed(it.since, now)) : "";
  const found = it.comparison;
  return element("small", { className: "rollout", title: it.unknown ?? "" }, `${pods}, `, since,
    it.pods && it.detail && !(found && it.canary) ? line(it.detail) : null,
    found ? line(`canary: ${soFar(found)}`, found.so_far === "worse" ? "worse" : "") : null,
    found ? line(`${p95(found.figures.canary)}, live ${p95(found.figures.stable)}; ${failedShare(found.figures.canary)} failed, live ${failedShare(found.figures.stable)} failed`) : null,
    it.ends && it.pods && !found?.seconds_left ? line(`undone ${until(it.ends, now)} unless it gets on`) : null);
}

// how a shadow answers beside its index, as somebody compared them last
function compared(row, now) {
  if (!row.shadow) return null;
  const found = row.compared;
  if (!found) return element("small", { className: "rollout" }, `not compared with its index yet: indexpush compare ${row.index.replace(/-shadow$/, "")}`);
  return element("small", { className: "rollout" }, `compared with ${buildOf(found.stable)} `, ago(found.finished, now),
    ...found.answers.map((each) => line(alike(each), each.overlap < found.least_overlap ? "worse" : "")));
}

const alike = (one) => `${QUESTIONS[one.questions] ?? one.questions}: ${percent(one.overlap)} the same, ${one.missing.toLocaleString()} missing; ${p95Of(one.shadow)}, live ${p95Of(one.stable)}`;
const QUESTIONS = { items: "items", pictures: "golden pictures" };
const percent = (part) => `${(part * 100).toFixed(1)}\u00a0%`;
const p95Of = (one) => (one ? `p95 ${one.p95_ms.toFixed(1)} ms` : "no answer");

// the same, whole
export function shadow(row, now) {
  const found = row.compared;
  if (!found) return [];
  const each = (name, show) => element("tr", {}, element("th", { scope: "row" }, name), ...found.answers.map((one) => element("td", {}, show(one))));
  const worst = found.answers.flatMap((one) => one.worst).filter((one) => one.overlap < 1);
  return [
    element("h3", {}, `Its answers, beside those of ${buildOf(found.stable)}`),
    element("p", {}, "Compared ", ago(found.finished, now), ` by ${found.by || "somebody (not stated)"}`, found.least_overlap ? `, who wanted ${percent(found.least_overlap)} at least` : ""),
    element("table", { className: "figures" },
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, ""), ...found.answers.map((one) => element("th", { scope: "col" }, QUESTIONS[one.questions] ?? one.questions)))),
      element("tbody", {},
        each("Asked", (one) => one.asked.toLocaleString()),
        each("Not in the shadow", (one) => one.missing.toLocaleString()),
        each("The same neighbours", (one) => `${percent(one.overlap)} of the first ${one.k}`),
        each("Rank-biased overlap", (one) => one.rank_biased_overlap.toFixed(3)),
        each("95 % of the shadow's answers within", (one) => (one.shadow ? `${one.shadow.p95_ms.toFixed(1)} ms` : "–")),
        each("95 % of live answers within", (one) => (one.stable ? `${one.stable.p95_ms.toFixed(1)} ms` : "–")))),
    worst.length ? element("p", {}, `Least alike: ${worst.map((one) => `${one.question} (${percent(one.overlap)})`).join(", ")}`) : "",
  ];
}

const line = (words, kind = "") => element("span", { className: `detail ${kind}` }, words);
const until = (moment, now) => (Date.parse(moment) > now ? `in ${duration((Date.parse(moment) - now) / 1000)}` : "any moment now");
const p95 = (one) => (one.p95_ms === undefined ? "p95 unknown" : `p95 ${one.p95_ms.toFixed(1)} ms`);
const share = (part, whole) => (whole ? `${((part / whole) * 100).toFixed(part ? 2 : 0)}\u00a0%` : "–");
// of probes or of requests, whichever is more: each is judged
const failedShare = (one) => (one.probes_failed * one.requests > one.errors * one.probes ? share(one.probes_failed, one.probes) : share(one.errors, one.requests || one.probes));

const SO_FAR = { "no-worse": "no worse so far", worse: "worse so far", "too-few-answers": "too few answers to judge yet", promoted: "promoted" };

function soFar(found) {
  const words = SO_FAR[found.so_far] ?? found.so_far;
  if (found.so_far === "promoted") return words;
  return found.seconds_left ? `${words}, judged in ${Math.ceil(found.seconds_left)} s` : `${words}, its time is over`;
}

// what a canary shows while it goes on, and by which rules it is judged
export function comparison(found) {
  if (!found) return [];
  const { figures, rules } = found;
  const { canary: mine, stable: live } = figures;
  const of = (part, whole) => `${part.toLocaleString()} of ${whole.toLocaleString()} (${share(part, whole)})`;
  const ms = (value) => (value === undefined ? "too few to tell" : `${value.toFixed(1)} ms`);
  const more = rules ? `${(rules.max_error_rate * 100).toFixed(2)} % more` : "";
  const row = (name, one, other, allowed = "") => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, one), element("td", {}, other), rules ? element("td", {}, allowed) : null);
  const head = ["", "Canary", "Live", ...(rules ? ["Allowed"] : [])];
  return [
    element("h3", {}, "Its canary, beside the live pods"),
    element("p", { className: found.so_far === "worse" ? "worse" : "" }, `After ${Math.round(figures.seconds)} s ${soFar(found)}${found.why ? `: ${found.why}` : ""}`),
    element("table", { className: "figures" },
      element("thead", {}, element("tr", {}, ...head.map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {},
        row("Pods", mine.pods.toLocaleString(), live.pods.toLocaleString()),
        row("Probes that failed", of(mine.probes_failed, mine.probes), of(live.probes_failed, live.probes), more),
        row("Requests answered 5xx", of(mine.errors, mine.requests), of(live.errors, live.requests), more),
        row("95 % of probes within", ms(mine.p95_ms), ms(live.p95_ms), rules ? `${rules.max_latency_ratio} times live's, or ${rules.latency_floor_ms} ms` : ""),
        row("Mean of all requests", ms(mine.mean_ms), ms(live.mean_ms), "not judged"),
        row("Wrong golden answers", figures.wrong_answers.toLocaleString(), "", "none"),
        row("Restarts", figures.restarts.toLocaleString(), "", "none"))),
  ];
}

export const elapsed = (since, now) => `${Math.max(0, Math.round((now - Date.parse(since)) / 1000)).toLocaleString()} s`;

export function cells(row, now, open) {
  if (row.name) {
    return [
      element("th", { scope: "row" }, row.name),
      element("td", { "data-name": "State", colspan: "5" }, state(row), whys(row)),
    ];
  }
  const { commit, build, serving } = row;
  const title = element("button", { className: "open", type: "button", onclick: open, "aria-expanded": "false", "aria-label": `${row.index} in ${row.environment}` }, row.index);
  const committed = commit.updated ? [ago(commit.updated, now)] : ["–"];
  const waiting = row.state === "waiting" && commit.index_prefix ? `next: ${buildOf(commit.index_prefix)}` : null;
  return [
    element("th", { scope: "row" }, title, element("small", {}, row.environment, row.index.endsWith("-shadow") ? ", beside the index: a shadow" : "")),
    element("td", { "data-name": "State" }, state(row), commit.hold ? " " : null,
      commit.hold ? element("span", { className: "state hold", title: commit.reason }, "on hold") : null, rollout(row, now), compared(row, now), whys(row)),
    element("td", { "data-name": "Serving" }, buildOf(serving?.index_prefix),
      serving ? element("small", {}, "since ", ago(serving.finished, now)) : null,
      address(row),
      waiting ? element("small", {}, waiting) : null),
    element("td", { "data-name": "Made" }, build ? ago(build.created, now) : "–",
      build ? element("small", {}, `${build.items.toLocaleString()} items, ${bytes(build.bytes)}, recall ${build.recall.toFixed(3)}`) : null),
    element("td", { "data-name": "Committed" }, ...committed),
    element("td", { "data-name": "By" }, commit.by || "not stated", commit.reason ? element("small", { className: "reason-said", title: commit.reason }, commit.reason) : null),
  ];
}

function whys(row) {
  return row.attention.length ? element("div", { className: "whys" }, ...row.attention.map((why) => element("p", {}, why))) : null;
}

// the newest is last; builds that several commits name count once
export function sparks(receipts) {
  const seen = new Map();
  for (const each of receipts) if (each.build && !seen.has(each.index_prefix)) seen.set(each.index_prefix, each.build);
  const builds = [...seen.values()].reverse();
  if (builds.length < 2) return null;
  const one = (name, values, show) => {
    const low = Math.min(...values);
    const high = Math.max(...values);
    const at = (value, n) => `${(n / (values.length - 1)) * 100},${high === low ? 20 : 38 - ((value - low) / (high - low)) * 36}`;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("points", values.map(at).join(" "));
    svg.setAttribute("viewBox", "0 0 100 40");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    const words = `${name}: ${show(values.at(-1))}, between ${show(low)} and ${show(high)} over ${values.length} builds`;
    svg.setAttribute("aria-label", words);
    svg.append(line);
    return element("div", { className: "spark" }, svg, element("p", {}, words));
  };
  return element("div", { className: "sparks" },
    one("Items", builds.map((each) => each.items), (value) => value.toLocaleString()),
    one("Recall", builds.map((each) => each.recall), (value) => value.toFixed(3)));
}

// compared: builds that have a diff; onDiff(build, place): shows it there
export function timeline(receipts, now, compared, onDiff) {
  return element("ol", { className: "timeline" }, ...receipts.map((each) => entry(each, now, compared, onDiff)));
}

export function diffButton(build, onDiff) {
  const place = element("div", { className: "diff", hidden: true });
  const button = element("button", { type: "button", className: "link", "aria-expanded": "false" }, "What changed");
  button.onclick = () => {
    place.hidden = !place.hidden;
    button.setAttribute("aria-expanded", String(!place.hidden));
    if (!place.hidden) onDiff(build, place);
  };
  return [button, place];
}

export function diff(found) {
  const alike = (one) => `${(one.overlap * 100).toFixed(1)} % of the first ten neighbours are the same, of ${one.asked.toLocaleString()} asked`;
  const { gone, moved } = found.counts;
  const lines = [
    `against ${buildOf(found.against)}: ${found.counts.new.toLocaleString()} items came, ${gone.toLocaleString()} went, ${moved.toLocaleString()} changed their category`,
    found.items.asked ? `items: ${alike(found.items)}` : null,
    found.golden.asked ? `golden pictures: ${alike(found.golden)}` : null,
  ];
  return [
    ...found.stops.map((why) => element("p", { className: "bad" }, why)),
    ...lines.filter(Boolean).map((line) => element("p", {}, line)),
    ...found.examples.map((one) => example(one, found.pictures)),
  ];
}

function example(one, pictures) {
  const row = (words, ids) => element("div", { className: "pictures" }, element("span", { className: "hint" }, words), ...ids.slice(0, 8).map((id) => picture(id, pictures)));
  return element("figure", {}, element("figcaption", {}, `${one.item}, ${one.category}: ${Math.round(one.overlap * 100)} % the same`),
    row("before", one.before), row("now", one.after));
}

function picture(id, pictures) {
  const source = pictures[id];
  if (!source?.startsWith("https://")) return element("span", { className: "name" }, id);
  return element("img", { src: source, alt: id, title: id, width: 56, height: 56, loading: "lazy" });
}

function canary(it) {
  const side = (name, one) =>
    `${name} ${one.p95_ms === undefined ? "p95 unknown" : `p95 ${one.p95_ms.toFixed(1)} ms`}, ${one.probes_failed} of ${one.probes.toLocaleString()} probes and ${one.errors} of ${one.requests.toLocaleString()} requests failed`;
  return `canary ${it.promoted ? "promoted" : "aborted"} after ${Math.round(it.seconds)} s: ${side("canary", it.canary)}; ${side("stable", it.stable)}`;
}

function entry(each, now, compared, onDiff) {
  if (each.outcome === null) return element("li", {}, element("div", { className: "bad" }, `generation ${each.generation}: ${each.malformed}`));
  const bad = each.outcome === "undone" || each.outcome === "rejected";
  const size = each.build ? `, ${each.build.items.toLocaleString()} items, ${bytes(each.build.bytes)}` : "";
  return element("li", {},
    element("div", {}, ago(each.finished, now)),
    element("div", {}, element("span", { className: `state ${bad ? "bad" : ""}` }, each.outcome)),
    element("div", {},
      element("p", {}, `${buildOf(each.index_prefix)}, by ${each.by || "somebody (not stated)"}, in ${duration(each.seconds)}${size}`),
      each.reason ? element("p", { className: "hint" }, each.reason) : null,
      each.detail ? element("p", { className: bad ? "bad" : "hint" }, each.detail) : null,
      each.compared ? element("p", { className: "hint" }, `beside ${buildOf(each.compared.stable)}: ${each.compared.answers.map(alike).join("; ")}`) : null,
      each.canary ? element("p", { className: "hint" }, canary(each.canary)) : null,
      ...(compared.includes(buildOf(each.index_prefix)) ? diffButton(buildOf(each.index_prefix), onDiff) : [])));
}
