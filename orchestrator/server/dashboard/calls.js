// Live calls. Of a thousand only the rows that are seen exist, and they are changed in place.

import { get } from "./api.js";
import { notice } from "./dialogs.js";
import { drawing, el, redraw, setAttribute, setText } from "./dom.js";
import { duration, length, money, ms, words } from "./format.js";
import { model, now } from "./model.js";
import { openTimeline } from "./timeline.js";

const AGAIN_MS = 500; // the order is worked out again at most so often, so that rows do not jump about
const ORDERS = {
  started: { name: "Newest first", of: (call) => call.started_at },
  cost: { name: "Dearest first", of: (call) => call.spent_usd },
  handover: { name: "Latest handover first", of: (call) => call.last_handover_at ?? 0 },
  gap: { name: "Longest gap first", of: (call) => call.longest_gap_ms ?? 0 },
};
const COLUMNS = ["Call", "Tier", "Time", "Turns", "Cost", "Bucket", "Last handover", "Longest gap"];

const ENDED = "ended";
const ENDED_EVERY_MS = 15_000;

const view = { tier: "", ended: [],  words: "", order: "started", shown: [], sortedAt: 0, at: 0, later: 0 };
let list, body, viewport, pool;

export function setUpCalls() {
  const tools = document.getElementById("calls-tools");
  tools.append(
    el("div", { class: "tabs", role: "group", "aria-label": "Calls of which tier" }, ...["", "A", "B", "C", ENDED].map(tab)),
    el("input", { type: "search", id: "calls-search", placeholder: "Call, user, bucket…", "aria-label": "Search calls", oninput: search }),
    el("select", { id: "calls-order", "aria-label": "Order", onchange: (event) => choose({ order: event.target.value }) },
      ...Object.entries(ORDERS).map(([id, { name }]) => el("option", { value: id }, name))),
  );
  list = document.getElementById("calls-list");
  body = el("div", { class: "body", role: "presentation" });
  viewport = el("div", { class: "viewport", role: "presentation", tabindex: "-1", onscroll: () => redraw("calls") }, body);
  pool = [];
  list.append(
    el("div", { class: "table", role: "table", "aria-labelledby": "calls-title", onkeydown: move },
      el("div", { class: "row head", role: "row", "aria-rowindex": 1 }, ...COLUMNS.map((name) => el("span", { role: "columnheader" }, name))),
      viewport),
    el("p", { class: "empty", hidden: true }),
  );
  new ResizeObserver(() => redraw("calls")).observe(viewport);
  setInterval(() => view.tier === ENDED && !document.hidden && loadEnded(), ENDED_EVERY_MS);
  drawing("calls", draw);
}

function tab(tier) {
  const choose_ = () => choose({ tier });
  return el("button", { type: "button", "data-tier": tier, "aria-pressed": String(tier === ""), onclick: choose_ }, { "": "All", [ENDED]: "Ended" }[tier] ?? tier);
}

function search(event) {
  choose({ words: event.target.value.trim().toLowerCase() });
}

function choose(change) {
  Object.assign(view, change, { sortedAt: 0, at: 0 });
  viewport.scrollTop = 0;
  if (change.tier === ENDED) loadEnded();
  redraw("calls");
}

// The last calls that ended, as many as the server keeps.
async function loadEnded() {
  try {
    const { calls } = await get("v1/calls?ended=true&limit=1000");
    view.ended = calls.filter((call) => !call.live);
    view.sortedAt = 0;
    redraw("calls");
    notice("ended", "bad", "");
  } catch (error) {
    notice("ended", "bad", `Calls that have ended cannot be shown: ${error.message}`);
  }
}

function sortAgain() {
  const calls = [...(view.tier === ENDED ? view.ended : model.calls.values())].filter(isWanted);
  const of = ORDERS[view.order].of;
  calls.sort((a, b) => of(b) - of(a) || (a.call_id < b.call_id ? -1 : 1));
  view.shown = calls;
  view.sortedAt = performance.now();
}

function isWanted(call) {
  if (view.tier && view.tier !== ENDED && call.tier !== view.tier) return false;
  if (!view.words) return true;
  return [call.call_id, call.user, call.bucket, call.rung, call.purpose].some((text) => text?.toLowerCase().includes(view.words));
}

function draw() {
  const wait = AGAIN_MS - (performance.now() - view.sortedAt);
  if (!view.sortedAt || wait <= 0) sortAgain();
  else if (!view.later) {
    view.later = setTimeout(() => {
      view.later = 0;
      redraw("calls");
    }, wait);
  }
  drawTools();
  const height = rowHeight();
  const first = Math.max(0, Math.floor(viewport.scrollTop / height) - 2);
  const fit = Math.ceil(viewport.clientHeight / height) + 4;
  const last = Math.min(view.shown.length, first + fit);
  body.style.height = `${view.shown.length * height}px`;
  while (pool.length < Math.min(fit, view.shown.length)) {
    pool.push(makeRow());
    body.append(pool.at(-1));
  }
  // One row of the list can be reached with Tab: where the arrow keys are, or the first that is seen.
  const top = Math.ceil(viewport.scrollTop / height);
  const reached = view.at >= first && view.at < last ? view.at : Math.min(top, last - 1);
  const used = new Set();
  for (let index = first; index < last; index += 1) {
    // By its number, so that a row stays the same element while the list is scrolled.
    const row = pool[index % pool.length];
    used.add(row);
    updateRow(row, view.shown[index], index, height, index === reached);
  }
  for (const row of pool) setAttribute(row, "hidden", !used.has(row));
}

function rowHeight() {
  return window.matchMedia("(max-width: 880px)").matches ? 74 : 40;
}

function drawTools() {
  const all = model.calls.size;
  const some = view.shown.length;
  const found = model.callsFound > all ? `${all.toLocaleString("en")} of ${model.callsFound.toLocaleString("en")}` : all.toLocaleString("en");
  const shown = view.tier === ENDED ? `${some.toLocaleString("en")} ended, ` : some === all ? "" : `${some.toLocaleString("en")} shown of `;
  setText(document.getElementById("calls-count"), `${shown}${found} live`);
  for (const button of document.querySelectorAll("#calls-tools button")) {
    setAttribute(button, "aria-pressed", String(button.dataset.tier === view.tier));
    setAttribute(button, "hidden", model.readOnly && button.dataset.tier === ENDED);
  }
  const empty = list.querySelector(".empty");
  setAttribute(empty, "hidden", some > 0);
  const none = all ? "No live call is like that." : "No call is live at this replica.";
  setText(empty, view.tier === ENDED ? "No call that has ended is like that." : none);
  setAttribute(list.querySelector(".table"), "aria-rowcount", some + 1);
  setAttribute(list.querySelector(".table"), "hidden", some === 0);
}

function makeRow() {
  const cell = (name, ...inside) => el("span", { role: "cell", class: name }, ...inside);
  return el(
    "div",
    { class: "row", role: "row", tabindex: "-1", onclick: open },
    cell("call", el("span", { class: "id" }), el("span", { class: "user quiet" })),
    cell("tier", el("span", { class: "badge" }), el("span", { class: "rung quiet" })),
    cell("time"),
    cell("turns"),
    cell("cost"),
    cell("bucket"),
    cell("handover", el("span", { class: "way" }), el("span", { class: "cause quiet" })),
    cell("gap"),
  );
}

function updateRow(row, call, index, height, reached) {
  row.dataset.index = index;
  row.dataset.call = call.call_id;
  row.style.transform = `translateY(${index * height}px)`;
  setAttribute(row, "tabindex", reached ? 0 : -1);
  setAttribute(row, "aria-rowindex", index + 2);
  const [name, tier, time, turns, cost, bucket, handover, gap] = row.children;
  setText(name.children[0], call.call_id);
  setText(name.children[1], call.user);
  setText(tier.children[0], call.tier);
  setAttribute(tier.children[0], "data-tier", call.tier);
  setText(tier.children[1], call.rung);
  setText(time, length((call.ended_at ?? now()) - call.started_at));
  setText(turns, call.turns ?? "–");
  setText(cost, money(call.spent_usd));
  setText(bucket, call.bucket);
  setText(handover.children[0], lastHandover(call));
  setText(handover.children[1], call.last_handover_at ? words(call.reason) : "");
  setText(gap, call.longest_gap_ms ? ms(call.longest_gap_ms) : "–");
  setAttribute(gap, "data-late", (call.longest_gap_ms ?? 0) > 800);
  setAttribute(row, "title", `${call.call_id} · ${call.user} · ${call.rung}: ${words(call.reason)}`);
}

function lastHandover(call) {
  if (!call.last_handover_at) return call.handovers === null ? "not told" : "none";
  const way = call.tiers.length > 1 ? `${call.tiers.at(-2)} → ${call.tiers.at(-1)}` : `within ${call.tier}`;
  return `${way}, ${duration(now() - call.last_handover_at)} ago`;
}

function open(event) {
  const row = event.currentTarget;
  view.at = Number(row.dataset.index);
  openTimeline(row.dataset.call);
}

// Arrow keys go through all calls, also those that have no row yet; Enter opens one.
function move(event) {
  const page = Math.max(1, Math.floor(viewport.clientHeight / rowHeight()) - 1);
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  if (event.key === "Enter" && event.target.dataset.call) {
    event.preventDefault();
    openTimeline(event.target.dataset.call);
  }
  if (!(event.key in steps) || !view.shown.length) return;
  event.preventDefault();
  view.at = Math.min(view.shown.length - 1, Math.max(0, view.at + steps[event.key]));
  const height = rowHeight();
  const top = view.at * height;
  if (top < viewport.scrollTop) viewport.scrollTop = top;
  else if (top + height > viewport.scrollTop + viewport.clientHeight) viewport.scrollTop = top + height - viewport.clientHeight;
  draw();
  pool.find((row) => !row.hidden && Number(row.dataset.index) === view.at)?.focus({ preventScroll: true });
}
