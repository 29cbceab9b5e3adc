// The gateway's page. Nothing that came from a device is ever read as markup: every text goes into the document as a text node.

const REFRESH = 5000, CERTIFICATES_REFRESH = 60000, TYPING = 200, PATIENCE = 20000;
const KEY = "onyx-token";
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

/** Makes an element; children that are not elements become text. */
function h(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}
function s(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}
function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "onclick") element.addEventListener("click", value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

// ---- figures for people

const PREFIXES = ["", "k", "M", "G", "T"];
/** 1234567 → "1.23 M"; steps of 1000. */
function short(n) {
  let power = 0;
  while (Math.abs(n) >= 999.5 && power < PREFIXES.length - 1) { n /= 1000; power += 1; }
  const digits = power === 0 && Number.isInteger(n) ? 0 : Math.abs(n) >= 99.95 ? 0 : Math.abs(n) >= 9.995 ? 1 : 2;
  return [n.toFixed(digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, ""), PREFIXES[power]];
}
const unit = (n, u) => { const [number, prefix] = short(n); return `${number}\u00a0${prefix}${u}`; };
const bytes = (n) => unit(n, "B");
const count = (n) => Number(n).toLocaleString("en");
function span(seconds) {
  const t = Math.max(0, Math.round(seconds));
  if (t < 60) return `${t} s`;
  if (t < 3600) return `${Math.floor(t / 60)} min`;
  if (t < 86400) return `${Math.floor(t / 3600)} h ${Math.floor((t % 3600) / 60)} min`;
  return `${Math.floor(t / 86400)} d ${Math.floor((t % 86400) / 3600)} h`;
}
const words = (key) => key.replaceAll("_", " ");
const two = (n) => String(n).padStart(2, "0");
const clockTime = (d) => `${two(d.getHours())}:${two(d.getMinutes())}`;
const day = (d) => `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
function moment(unix, seconds = true) {
  const d = new Date(unix * 1000);
  return `${day(d)} ${clockTime(d)}${seconds ? ":" + two(d.getSeconds()) : ""}`;
}
const ago = (unix, now) => (unix ? `${span(now - unix)} ago` : "never");

// ---- asking

let token = sessionStorage.getItem(KEY) ?? "";
class Denied extends Error {}

async function ask(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, v]) => v !== "" && v !== undefined));
  const response = await fetch(`/v1/gateway/${path}?${query}`, {
    headers: { Authorization: `Bearer ${token}` }, cache: "no-store", credentials: "omit", redirect: "error",
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (response.status === 401 || response.status === 403 || response.status === 429) {
    const body = await response.json().catch(() => ({}));
    throw new Denied(response.status === 401 ? "The token is not right." : body.message ?? `The gateway refuses: ${response.status}.`);
  }
  const body = await response.json();
  if (!response.ok) throw new Error(body.message ?? `HTTP ${response.status}`);
  return body;
}

/** Runs `work`; what goes wrong is said in the top line, and a wrong token leads back to the form. */
async function attempt(work) {
  try {
    await work();
    return true;
  } catch (e) {
    if (e instanceof Denied) signOut(e.message);
    else {
      $("fresh").textContent = `No answer from the gateway: ${e.message}`;
      $("fresh").className = "stale";
    }
    return false;
  }
}

// ---- signing in

function signOut(message = "") {
  token = "";
  sessionStorage.removeItem(KEY);
  if ($("device").open) $("device").close();
  $("all").hidden = true;
  $("leave").hidden = true;
  $("sign-in").hidden = false;
  $("wrong").textContent = message;
  $("fresh").textContent = "";
  $("where").textContent = "";
  $("token").focus();
}

$("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  $("wrong").textContent = "";
  if (!token || /[^\x21-\x7e]/.test(token)) return signOut("The token is not right.");
  if (await attempt(refresh)) {
    sessionStorage.setItem(KEY, token);
    $("token").value = "";
    open();
  }
});
$("leave").addEventListener("click", () => signOut());

function open() {
  $("sign-in").hidden = true;
  $("all").hidden = false;
  $("leave").hidden = false;
  drawPlots();
}

// ---- top: health and figures

let status = null;

function showStatus() {
  $("where").textContent = `${status.listening} \u2192 ${status.upstream}`;
  const worst = status.health[0]?.level;
  $("health").className = `card ${worst ?? "good"}`;
  const n = status.health.length;
  $("verdict").textContent = worst === undefined ? "All is well." : n === 1 ? "One thing needs attention." : `${n} things need attention.`;
  $("findings").replaceChildren(...status.health.map((f) => h("li", {}, h("span", { class: `tag ${f.level}` }, f.level), h("span", {}, f.text))));
  const recent = history?.range === "hour" ? history.points.slice(-7, -1) : [];
  const rate = (column) => {
    const seconds = recent.reduce((sum, p) => sum + p[1], 0);
    return seconds > 0 ? `${unit(recent.reduce((sum, p) => sum + p[column], 0) / seconds, "B/s")} now` : "";
  };
  const refused = Object.values(status.refused).reduce((a, b) => a + b, 0);
  const tls = status.handshakes, shook = tls.full + tls.resumed;
  const p = status.process, store = status.store;
  const figures = [
    ["Connections", count(status.open), status.max_connections ? `of ${count(status.max_connections)} places` : ""],
    ["From devices", bytes(status.up.bytes), rate(3)],
    ["To devices", bytes(status.down.bytes), rate(4)],
    ["Let in", count(status.relayed), `${count(refused)} refused${status.slow_addresses ? `, ${count(status.slow_addresses)} slowed` : ""}`],
    ["TLS upstream", shook ? `${Math.round((100 * tls.resumed) / shook)}\u00a0%` : "\u2013", shook ? `resumed; whole ${tls.full_mean_ms ?? "\u2013"} ms` : "no handshake yet"],
    ["Memory", p.rss_bytes ? bytes(p.rss_bytes) : "\u2013", `CPU ${span(p.cpu_seconds ?? 0)}, ${count(p.open_fds ?? 0)} files`],
    store
      ? ["Store", store.silent_since ? "silent" : "answers", store.silent_since ? store.last_error : `change ${store.generation ?? "\u2013"}, ${store.errors || "no"} errors`]
      : ["Subscribers", count(status.subscribers), "in files"],
    ["Running for", span(status.seconds), `version ${status.version}`],
  ];
  $("figures").replaceChildren(...figures.map(([name, value, more]) => h("div", {}, h("dt", {}, name), h("dd", {}, value, h("small", {}, more)))));

  const way = (w) => [bytes(w.bytes), h("span", { class: "sub" }, `${count(w.packets)} packets`)];
  rows("groups-rows", Object.entries(status.groups), ([name, g]) => [
    cell("Group", name), number("Open", count(g.open)), number("Let in", count(g.relayed)), number("Refused", count(g.refused)),
    number("Up", way(g.up)), number("Down", way(g.down)),
  ], "No group has been used yet.");
  $("strangers").hidden = status.strangers.length === 0;
  rows("strangers-rows", status.strangers, (x) => [
    cell("Address", x.address), cell("Client id", x.client_id), cell("Why", [words(x.reason), h("span", { class: "sub" }, x.why)]),
    number("Times", count(x.times)), cell("Last", ago(x.last, status.now)),
  ]);
}

const cell = (label, content) => h("td", { "data-label": label }, content);
const number = (label, content) => h("td", { "data-label": label, class: "n" }, h("span", {}, content));

/** Fills a table's body; whoever had the focus in it keeps it. */
function rows(id, list, cells, none = "") {
  const body = $(id), held = body.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const made = list.map((x) => h("tr", {}, cells(x)));
  if (made.length === 0 && none) made.push(h("tr", {}, h("td", { class: "none", colspan: 9 }, none)));
  body.replaceChildren(...made);
  if (held) body.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus();
}

// ---- plots

let history = null, range = "hour";
/** A round number that is at least n: 1, 2 or 5 times a power of ten. */
function round(n) {
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].map((m) => m * power).find((x) => x >= n * 0.9999);
}

function drawPlots() {
  if (!history || $("all").hidden) return;
  const at = (column) => history.points.map((p) => p[column]);
  const seconds = at(1), rate = (column) => at(column).map((n, i) => (seconds[i] > 0 ? n / seconds[i] : null));
  plot("plot-throughput", "Throughput", "B/s", [
    { name: "from devices", class: "a", values: rate(3) }, { name: "to devices", class: "b", values: rate(4) },
  ], "lines");
  plot("plot-open", "Open connections", "", [{ name: "open", class: "c", values: at(2).map((n, i) => (seconds[i] > 0 ? n : null)) }], "lines");
  const reasons = Object.entries(history.refused).map(([key, values]) => ({ name: words(key), values, sum: values.reduce((a, b) => a + b, 0) }))
    .sort((a, b) => b.sum - a.sum);
  const shown = reasons.slice(0, 7).map((r, i) => ({ ...r, class: `r${i}` }));
  if (reasons.length > 7) {
    const rest = reasons.slice(7);
    shown.push({ name: "other reasons", class: "r7", values: rest[0].values.map((_, i) => rest.reduce((sum, r) => sum + r.values[i], 0)) });
  }
  plot("plot-refused", "Refused connections", "", shown, "bars");
}

const cursors = {};

function plot(id, title, u, series, kind) {
  const figure = $(id), width = Math.max(280, figure.clientWidth), height = 168;
  const left = 58, right = 10, top = 10, bottom = 24, inner = width - left - right, tall = height - top - bottom;
  const step = history.step_seconds, slots = history.slots_max, times = history.points.map((p) => p[0]);
  const end = (times.at(-1) ?? history.now) + step, begin = end - slots * step;
  const x = (t) => left + ((t - begin) / (end - begin)) * inner;
  const total = (i) => series.reduce((sum, one) => sum + (one.values[i] ?? 0), 0);
  const most = kind === "bars" ? Math.max(0, ...times.map((_, i) => total(i))) : Math.max(0, ...series.flatMap((one) => one.values.map((v) => v ?? 0)));
  const tick = round(Math.max(most, u ? 10 : 3) / 3), ceiling = tick * Math.max(1, Math.ceil(most / tick) || 1);
  const levels = ceiling < 3 * tick && !most ? 3 * tick : ceiling;
  const y = (v) => top + tall - (v / levels) * tall;
  const value = (v) => (u ? unit(v, u) : short(v).join(""));

  const parts = [];
  for (let v = 0; v <= levels + tick / 2; v += tick) {
    parts.push(s("line", { class: v === 0 ? "axis" : "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }));
    parts.push(s("text", { x: left - 7, y: y(v) + 4, "text-anchor": "end" }, value(v)));
  }
  for (const t of timeTicks(begin, end, inner)) {
    parts.push(s("line", { class: "axis", x1: x(t.at), x2: x(t.at), y1: top + tall, y2: top + tall + 4 }));
    parts.push(s("text", { x: x(t.at), y: height - 6, "text-anchor": "middle" }, t.label));
  }
  const p = (n) => n.toFixed(1);
  if (kind === "lines") {
    for (const one of series) {
      let line = "", area = "", from = null;
      const close = (i) => { if (from !== null) { if (i === from) line += "h.01"; area += `L${p(x(times[i] + step / 2))} ${p(y(0))}L${p(x(times[from] + step / 2))} ${p(y(0))}Z`; from = null; } };
      one.values.forEach((v, i) => {
        if (v === null) return close(i - 1);
        const point = `${from === null ? "M" : "L"}${p(x(times[i] + step / 2))} ${p(y(v))}`;
        if (from === null) from = i;
        line += point; area += point;
      });
      close(one.values.length - 1);
      parts.push(s("path", { class: `area ${one.class}`, d: area }), s("path", { class: `line ${one.class}`, d: line, "data-series": one.name }));
    }
  } else {
    const wide = Math.max(1.5, (inner / slots) * 0.85), base = times.map(() => 0);
    for (const one of series) {
      let d = "";
      one.values.forEach((v, i) => {
        if (!v) return;
        const middle = x(times[i] + step / 2), low = y(base[i]), high = Math.min(y(base[i] + v), low - 1.5);
        d += `M${p(middle - wide / 2)} ${p(low)}V${p(high)}h${p(wide)}V${p(low)}Z`;
        base[i] += v;
      });
      parts.push(s("path", { class: `bars ${one.class}`, d, "data-series": one.name }));
    }
  }
  const line = s("line", { class: "cursor", y1: top, y2: top + tall, visibility: "hidden" });
  const newest = times.length - 1;
  const summary = series.map((one) => `${one.name} ${value(one.values[newest] ?? 0)}`).join(", ") || "none";
  const svg = s("svg", {
    viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0, "data-points": times.length,
    "aria-label": `${title}, last ${span(slots * step)}. Latest: ${summary}. Arrow keys read values.`,
  }, parts, line);
  const tip = h("div", { class: "tip", role: "status", hidden: true });
  const keys = series.map((one) => h("span", { class: `key ${one.class}` }, h("span", {}, one.name)));
  if (keys.length === 0) keys.push(h("span", { class: "key r7" }, h("span", {}, "none in this time")));
  const caption = h("figcaption", {}, h("b", {}, title), kind === "bars" ? h("span", { class: "count" }, `each ${span(step)}, by reason`) : null, keys);

  const point = (index) => {
    cursors[id] = index;
    const none = index === null || index < 0 || index > newest;
    tip.hidden = none;
    line.setAttribute("visibility", none ? "hidden" : "visible");
    if (none) return;
    const at = x(times[index] + step / 2), box = figure.clientWidth / width;
    line.setAttribute("x1", at); line.setAttribute("x2", at);
    const of = series.filter((one) => kind === "lines" || one.values[index]);
    tip.replaceChildren(h("b", {}, moment(times[index], step < 60)),
      ...of.map((one) => h("div", { class: `key ${one.class}` }, h("span", {}, `${one.name}: ${one.values[index] === null ? "not watched" : value(one.values[index])}`))),
      ...(of.length ? [] : [h("div", {}, "none")]));
    const room = tip.offsetWidth + 14;
    tip.style.left = `${Math.max(0, at * box + (at * box + room > figure.clientWidth ? -room : 12))}px`;
    tip.style.top = `${caption.offsetHeight + 6}px`;
  };
  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const t = begin + (((event.clientX - box.left) / box.width) * width - left) / inner * (end - begin);
    return Math.max(0, Math.min(newest, Math.round((t - times[0] - step / 2) / step)));
  };
  svg.addEventListener("pointermove", (event) => point(times.length ? nearest(event) : null));
  svg.addEventListener("pointerleave", () => point(null));
  svg.addEventListener("blur", () => point(null));
  svg.addEventListener("keydown", (event) => {
    const now = cursors[id] ?? newest, to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: newest, Escape: null }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    point(to === null ? null : Math.max(0, Math.min(newest, to)));
  });
  const focused = figure.contains(document.activeElement);
  figure.replaceChildren(caption, svg, tip);
  if (focused) svg.focus();
  if (cursors[id] !== undefined && cursors[id] !== null) point(cursors[id]);
}

/** Round local times with room for their labels. */
function timeTicks(begin, end, width) {
  const steps = [300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 345600];
  const step = steps.find((t) => ((end - begin) / t) * 76 <= width) ?? steps.at(-1);
  const zone = new Date(begin * 1000).getTimezoneOffset() * 60, ticks = [];
  for (let at = Math.ceil((begin - zone) / step) * step + zone; at < end - (end - begin) / 60; at += step) {
    const d = new Date(at * 1000);
    if (at - begin > (end - begin) / 40) ticks.push({ at, label: step >= 86400 || (step >= 10800 && d.getHours() === 0) ? `${two(d.getMonth() + 1)}-${two(d.getDate())}` : clockTime(d) });
  }
  return ticks;
}

for (const button of document.querySelectorAll("[data-range]")) {
  button.addEventListener("click", () => {
    range = button.dataset.range;
    for (const other of document.querySelectorAll("[data-range]")) other.setAttribute("aria-pressed", String(other === button));
    for (const id of Object.keys(cursors)) cursors[id] = null;
    attempt(async () => { history = await ask("history", { range }); drawPlots(); });
  });
}
new ResizeObserver(drawPlots).observe(document.querySelector(".plots"));

// ---- lists with search and pages

/** A list: what was asked is asked again with each refresh; of answers that overtake each other the newest question's counts. */
function pagedList(path, pages, show, parameters) {
  const list = { offset: 0, limit: 20, turn: 0 };
  list.load = async () => {
    const turn = ++list.turn;
    let answer = await ask(path, { ...parameters(), limit: list.limit, offset: list.offset });
    if (list.offset > 0 && list.offset >= answer.total) {
      list.offset = Math.floor(Math.max(0, answer.total - 1) / list.limit) * list.limit;
      answer = await ask(path, { ...parameters(), limit: list.limit, offset: list.offset });
    }
    if (turn !== list.turn) return;
    show(answer);
    const go = (to) => () => { list.offset = to; attempt(list.load); };
    const last = Math.min(list.offset + list.limit, answer.total);
    $(pages).replaceChildren(...(answer.total <= list.limit ? [] : [
      h("span", {}, `${count(list.offset + 1)}\u2013${count(last)} of ${count(answer.total)}`),
      h("button", { type: "button", disabled: list.offset === 0, onclick: go(Math.max(0, list.offset - list.limit)) }, "Previous"),
      h("button", { type: "button", disabled: last >= answer.total, onclick: go(list.offset + list.limit) }, "Next"),
    ]));
  };
  return list;
}

function searching(id, list) {
  let timer;
  $(id).addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => { list.offset = 0; attempt(list.load); }, TYPING);
  });
}

const devices = pagedList("devices", "devices-pages", (answer) => {
  $("devices-count").textContent = `${count(answer.total)}, ${count(answer.online)} online`;
  $("devices-problem").hidden = !answer.problem;
  $("devices-problem").textContent = answer.problem ?? "";
  rows("devices-rows", answer.devices, (d) => {
    const seen = d.online ? [`since ${span(answer.now - d.since)}`, h("span", { class: "sub" }, d.upstream)]
      : [ago(d.last_seen, answer.now), d.last_event ? h("span", { class: "sub" }, [words(d.last_event.what), d.last_event.reason ? `: ${words(d.last_event.reason)}` : ""].join("")) : null];
    const way = (w) => (w ? [bytes(w.bytes), h("span", { class: "sub" }, `${count(w.packets)} packets`)] : []);
    const name = h("span", {}, h("span", { class: d.online ? "dot on" : "dot", title: d.online ? "online" : "offline" }),
      h("span", { class: "sr" }, d.online ? "online " : "offline "),
      h("button", { type: "button", class: "link", "data-key": d.imsi }, d.imsi), d.name || !d.enabled ? h("span", { class: "sub" }, d.name, d.enabled ? "" : " (disabled)") : null);
    return [cell("Device", name), cell("Client id", h("span", {}, d.client_id)), cell("Group", h("span", {}, d.group ?? "none")), cell("Address", h("span", {}, d.peer ?? d.source ?? "any")),
      cell("Seen", h("span", {}, seen)), number("Up", way(d.up)), number("Down", way(d.down))];
  }, $("search").value || $("state").value ? "No device matches." : "There are no subscribers yet.");
}, () => ({ q: $("search").value.trim(), state: $("state").value }));
searching("search", devices);
$("state").addEventListener("change", () => { devices.offset = 0; attempt(devices.load); });
$("devices-rows").addEventListener("click", (event) => {
  const imsi = event.target.closest("tr")?.querySelector("[data-key]")?.dataset.key;
  if (imsi) attempt(() => showDevice(imsi));
});

const certificates = pagedList("certificates", "certificates-pages", (answer) => {
  const all = answer.classes.reduce((sum, c) => sum + c.count, 0), most = Math.max(1, ...answer.classes.map((c) => c.count));
  $("certificates-count").textContent = `${count(all)}, soonest first${answer.problem ? `; ${answer.problem}` : ""}`;
  const names = { expired: "expired", unknown: "unusable" }, tones = { expired: "expired", unknown: "unknown", "0-6": "soon", "7-29": "soon" };
  $("classes").replaceChildren(...answer.classes.map((c) => {
    const bar = h("i", {});
    bar.style.height = c.count ? `${Math.max(4, (100 * c.count) / most)}%` : "0";
    return h("li", { class: tones[c.name] }, h("b", {}, count(c.count)), h("span", { class: "column" }, bar), h("span", {}, names[c.name] ?? `${c.name} days`));
  }));
  rows("certificates-rows", answer.certificates, (c) => {
    const tone = c.days_left === null || c.days_left < 0 ? "expired-text" : c.days_left < 30 ? "soon-text" : null;
    return [cell("Credential", h("span", {}, c.id, c.problem ? h("span", { class: "sub" }, c.problem) : null)), cell("IMSI", h("span", {}, c.imsi ?? "")),
      cell("Ends", h("span", {}, c.not_after === null ? "unusable" : moment(c.not_after, false))),
      number("Days left", h("span", { class: tone }, c.days_left === null ? "\u2013" : c.days_left < 0 ? "expired" : count(c.days_left)))];
  }, $("certificates-search").value ? "No certificate matches." : "There are no certificates.");
}, () => ({ q: $("certificates-search").value.trim() }));
searching("certificates-search", certificates);

// ---- one device

let shown = null;

async function showDevice(imsi) {
  const d = await ask(`device/${encodeURIComponent(imsi)}`);
  shown = imsi;
  $("device-title").replaceChildren(h("span", { class: d.online ? "dot on" : "dot" }), d.imsi, d.name ? h("span", { class: "count" }, d.name) : "");
  const fact = (name, value) => (value === null || value === undefined || value === "" ? null : h("div", {}, h("dt", {}, name), h("dd", {}, value)));
  const way = (w) => (w ? `${bytes(w.bytes)}, ${count(w.packets)} packets` : null);
  const facts = h("dl", { class: "facts" },
    fact("State", d.online ? `online since ${moment(d.since)}` : `offline, last seen ${d.last_seen ? moment(d.last_seen) : "never"}`),
    fact("Client id", d.client_id), fact("Group", d.group ?? "none"), fact("Address", d.peer), fact("Known by source", d.source),
    fact("Credential", d.credential), fact("Upstream", d.upstream), fact("From device", way(d.up)), fact("To device", way(d.down)),
    fact("Open connections", d.connections > 1 ? count(d.connections) : null), fact("Seen by gateway", d.last_gateway), fact("May connect", d.enabled ? null : "no, it is disabled"));
  const events = d.events.map((e) => {
    const more = [e.upstream, e.why, e.up ? `up ${way(e.up)}; down ${way(e.down)}` : null].filter(Boolean).join(" \u00b7 ");
    const who = [`connection ${e.connection}`, e.peer, e.client_id, e.credential ? `${e.credential} (${e.credential_version})` : null].filter(Boolean).join(" \u00b7 ");
    return h("li", { class: e.what }, h("span", { class: `tag ${e.what}` }, e.what === "rotated" ? "new credential" : e.what + (e.reason ? `: ${words(e.reason)}` : "")),
      h("time", { datetime: new Date(e.at * 1000).toISOString() }, moment(e.at)),
      e.times > 1 ? h("span", { class: "count" }, `${count(e.times)} times since ${moment(e.first)}`) : null,
      more ? h("div", {}, more) : null, h("div", { class: "sub" }, who));
  });
  $("device-body").replaceChildren(facts, h("h2", {}, "Timeline"), events.length ? h("ol", { class: "timeline" }, events) : h("p", { class: "none" }, "Nothing since the gateway started."));
  if (!$("device").open) $("device").showModal();
}
$("device-close").addEventListener("click", () => $("device").close());
$("device").addEventListener("click", (event) => { if (event.target === $("device")) $("device").close(); });
$("device").addEventListener("close", () => { shown = null; });

// ---- keeping it fresh

let looked = 0;

async function refresh() {
  const certificatesDue = Date.now() - looked > CERTIFICATES_REFRESH;
  const [newStatus, newHistory] = await Promise.all([ask("status"), ask("history", { range }), devices.load(), certificatesDue ? certificates.load() : null]);
  if (certificatesDue) looked = Date.now();
  status = newStatus;
  if (newHistory.range === range) history = newHistory;
  showStatus();
  drawPlots();
  if (shown && $("device").open) await showDevice(shown);
  $("fresh").textContent = `as of ${clockTime(new Date())}:${two(new Date().getSeconds())}`;
  $("fresh").className = "";
}

async function run() {
  for (;;) {
    await new Promise((done) => setTimeout(done, REFRESH));
    if (token && !document.hidden && !$("all").hidden) await attempt(refresh);
  }
}

if (token) {
  attempt(refresh).then((good) => { if (good || token) open(); });
} else signOut();
run();
