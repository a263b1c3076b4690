// One call as a picture: lanes for tier, speech in and out, handovers, tools and money, and every row below them.

import { follow, get } from "./api.js";
import { openDialog } from "./dialogs.js";
import { el, setAttribute, setText, svg } from "./dom.js";
import { clock, count, length, money, ms, words } from "./format.js";
import { model, now } from "./model.js";
import { openForce } from "./orders.js";

const LANES = ["Tier", "Speech in", "Speech out", "Handovers", "Tools", "Money"];
const TALL = 34;
const HEAD = 22;
const LEFT = 86;
const LEAST = 640;
const PER_SECOND = 4; // pixels, at least: a long call is scrolled
const MOST_ROWS = 600;

// Rows that are marks in a lane: what they are called, and how they are drawn.
const MARKS = {
  caller_said: { lane: 1, shape: "dot", name: "the caller's words" },
  backchannel: { lane: 1, shape: "dot", name: "a word in between" },
  keypad: { lane: 1, shape: "square", name: "keys pressed" },
  turn_ended: { lane: 1, shape: "tick", name: "turn ended" },
  answer: { lane: 2, shape: "dot", name: "answer" },
  bridge: { lane: 2, shape: "square", name: "bridge" },
  goodbye: { lane: 2, shape: "square", name: "goodbye" },
  refusal: { lane: 2, shape: "square", name: "refusal" },
  answer_failed: { lane: 2, shape: "cross", name: "answer failed" },
  handover: { lane: 3, shape: "diamond", name: "handover" },
  provider_lost: { lane: 3, up: 10, shape: "cross", name: "provider lost" },
  provider_error: { lane: 3, up: 10, shape: "cross", name: "provider's error" },
  drill: { lane: 3, shape: "square", name: "drill" },
  latency_breach: { lane: 3, up: 10, shape: "triangle", name: "latency budget exceeded" },
  tool_call: { lane: 4, shape: "square", name: "tool asked for" },
  tool_result: { lane: 4, shape: "dot", name: "tool's result" },
  tool_confirmation: { lane: 4, shape: "tick", name: "consent" },
  tool_approval: { lane: 4, shape: "diamond", name: "approval" },
  transfer: { lane: 4, shape: "triangle", name: "transfer to a person" },
  budget_step: { lane: 5, shape: "triangle", name: "a step cheaper" },
  budget_spent: { lane: 5, shape: "cross", name: "budget spent" },
};

export async function openTimeline(id) {
  const view = new Timeline(id);
  await view.load();
}

class Timeline {
  constructor(id) {
    this.id = id;
    this.rows = [];
    this.call = null;
    this.withText = false;
    this.problem = el("p", { class: "notice bad", role: "alert", hidden: true });
    this.facts = el("p", { class: "facts" });
    this.picture = svg("svg", { class: "lanes", role: "img" });
    this.scroll = el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Timeline" }, this.picture);
    this.list = el("ol", { class: "rows" });
    this.box = el("input", { type: "checkbox", onchange: (event) => this.showText(event.target.checked) });
    const force = el("button", { type: "button", onclick: () => openForce({ scope: `call:${id}` }) }, "Force this call…");
    this.tools = el("div", { class: "tools" }, el("label", { class: "check" }, this.box, " Show what was said"), force);
    setAttribute(force, "hidden", model.readOnly);
    this.dialog = openDialog({
      title: `Call ${id}`,
      name: "timeline",
      wide: true,
      body: [this.problem, this.facts, this.tools, this.scroll, legend(), this.list],
    });
    this.dialog.done.then(() => this.end());
  }

  end() {
    clearInterval(this.clock);
    this.stop?.();
    this.over = true;
  }

  async load() {
    this.stop?.();
    this.early = [];
    this.loaded = false;
    // First the stream, then what there was: nothing falls between them, and what is in both is told apart below.
    const text = this.withText ? "&text=true" : "";
    this.stop = follow(`call=${encodeURIComponent(this.id)}${text}`, { row: (row) => this.take(row), state: () => {} });
    try {
      const call = await get(`v1/calls/${encodeURIComponent(this.id)}${this.withText ? "?text=true" : ""}`);
      this.call = call;
      this.rows = call.rows;
      this.loaded = true;
      for (const row of this.early) this.take(row);
      setAttribute(this.problem, "hidden", true);
    } catch (error) {
      this.stop();
      setText(this.problem, error.message);
      setAttribute(this.problem, "hidden", false);
    }
    if (this.over) return this.end();
    this.drawSoon();
    this.clock ??= setInterval(() => this.call?.live && this.drawSoon(), 1000);
  }

  take(row) {
    if (row.call_id !== this.id) return;
    if (!this.loaded) {
      this.early.push(row);
      return;
    }
    const last = this.rows.at(-1);
    if (last && (row.time < last.time || (row.time === last.time && row.type === last.type))) return;
    this.rows.push(row);
    if (row.type === "charge") this.call.spent_usd += (row.nanodollars ?? 0) / 1e9;
    if (row.type === "call_ended") Object.assign(this.call, { live: false, ended_at: row.time });
    this.drawSoon();
  }

  async showText(wanted) {
    this.withText = wanted;
    await this.load();
  }

  drawSoon() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (this.call) this.draw();
    });
  }

  draw() {
    const call = this.call;
    const end = call.live ? now() : (call.ended_at ?? this.rows.at(-1)?.time ?? now());
    const began = Math.min(call.started_at, this.rows[0]?.time ?? call.started_at);
    setText(this.facts, facts(call, end));
    const seconds = Math.max(1, end - began);
    const width = Math.max(LEAST, this.scroll.clientWidth - 18, Math.min(12_000, LEFT + seconds * PER_SECOND));
    const x = (time) => LEFT + ((width - LEFT - 60) * (time - began)) / seconds;
    const height = HEAD + LANES.length * TALL + 4;
    setAttribute(this.picture, "viewBox", `0 0 ${width} ${height}`);
    setAttribute(this.picture, "width", width);
    setAttribute(this.picture, "height", height);
    setAttribute(this.picture, "aria-label", spoken(call, this.rows));
    this.picture.replaceChildren(...grid(x, began, seconds, width), ...tiers(this.rows, x, began, end), ...silences(this.rows, x), ...marks(this.rows, x, began), ...spending(this.rows, x, end));
    this.drawList(began);
  }

  drawList(began) {
    const shown = this.rows.slice(-MOST_ROWS);
    const made = (this.drawn ??= []);
    if (made.text !== this.withText || made.first !== shown[0]?.time) {
      this.list.replaceChildren();
      made.length = 0;
      Object.assign(made, { text: this.withText, first: shown[0]?.time });
    }
    for (const row of shown.slice(made.length)) {
      made.push(row);
      this.list.append(rowLine(row, began));
    }
    if (this.call.rows_dropped) setAttribute(this.list, "data-dropped", `${count(this.call.rows_dropped, "row")} in the middle are not kept.`);
  }
}

function facts(call, end) {
  const told = [
    call.live ? `live for ${length(end - call.started_at)}` : `ended ${clock(call.ended_at, true)} after ${length(end - call.started_at)}`,
    `tier ${call.tiers.join(" → ")} (${call.rung})`,
    `user ${call.user || "not named"}`,
    `bucket ${call.bucket}`,
    `for ${call.purpose}`,
    money(call.spent_usd),
    count(call.turns, "turn"),
    count(call.handovers, "handover"),
    call.longest_gap_ms ? `longest gap ${ms(call.longest_gap_ms)}` : "no gap",
    call.longest_voice_to_voice_ms ? `longest wait ${ms(call.longest_voice_to_voice_ms)}` : "",
  ];
  return [...told, ...Object.entries(call.latency ?? {}).map(waits)].filter(Boolean).join(" · ");
}

// A part of the waiting, beside its latency budget where it has one.
function waits([part, { count: measured, longest_ms: longest, limit_ms: limit, breaches }]) {
  if (!measured) return "";
  const over = breaches ? `, exceeded ${count(breaches, "time")}` : "";
  return `${part} at most ${ms(longest)}${limit === null ? "" : ` of ${ms(limit)}${over}`}`;
}

function spoken(call, rows) {
  const of = (type) => rows.filter((row) => row.type === type).length;
  return `Timeline of ${call.call_id}: tiers ${call.tiers.join(", ")}; ${count(of("answer"), "answer")}, ${count(of("handover"), "handover")}, ${count(of("tool_call"), "tool call")}. Every row is in the list below.`;
}

function legend() {
  const signs = ["● words, answer, result", "❙ end of a turn, consent", "◆ handover, approval", "■ bridge, keys, tool", "▲ cheaper, too late", "✕ failed", "dashed: silence"];
  return el("p", { class: "legend quiet" }, ...signs.map((sign) => el("span", {}, sign)));
}

const middle = (lane) => HEAD + lane * TALL + TALL / 2;

function grid(x, began, seconds, width) {
  const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800].find((each) => seconds / each <= width / 70) ?? 3600;
  const made = LANES.map((name, lane) =>
    svg("g", {}, svg("line", { class: "rule", x1: 0, x2: width, y1: HEAD + lane * TALL, y2: HEAD + lane * TALL }), svg("text", { class: "lane", x: 0, y: middle(lane) + 4 }, name)));
  for (let at = 0; at <= seconds; at += step) {
    const here = x(began + at);
    made.push(svg("g", {}, svg("line", { class: "tick", x1: here, x2: here, y1: HEAD - 4, y2: HEAD + LANES.length * TALL }), svg("text", { class: "label", x: here + 2, y: HEAD - 8 }, length(at))));
  }
  return made;
}

// Which tier served when. A label stands in it, so that colour is not the only sign.
function tiers(rows, x, began, end) {
  const spans = [];
  for (const row of rows) {
    const here = row.type === "handover" ? [row.to_tier, row.to_rung] : row.type === "call_started" ? [row.tier, row.rung] : null;
    if (!here) continue;
    const from = spans.length ? row.time : began;
    if (spans.length) spans.at(-1).to = row.time;
    spans.push({ tier: here[0], rung: here[1], from, to: end });
  }
  return spans.map(({ tier, rung, from, to }) => {
    const wide = Math.max(2, x(to) - x(from) - 1);
    const text = wide > 90 ? `${tier} ${rung ?? ""}` : wide > 14 ? tier : "";
    return svg("g", { "data-tier": tier },
      svg("title", {}, `${tier} ${rung ?? ""}, ${ms((to - from) * 1000)}`),
      svg("rect", { class: "span", x: x(from), width: wide, y: HEAD + 5, height: TALL - 10, rx: 4 }),
      svg("text", { class: "inside", x: x(from) + 6, y: middle(0) + 4 }, text.slice(0, Math.floor(wide / 7))));
  });
}

// A gap is told when the first sound after it came: it is the time before that.
function silences(rows, x) {
  return rows.filter((row) => row.type === "gap").map((row) => {
    const from = x(row.time - row.gap_ms / 1000);
    return svg("g", { class: "silence" },
      svg("title", {}, `silence of ${ms(row.gap_ms)}: ${words(row.cause)}`),
      svg("rect", { x: from, width: Math.max(2, x(row.time) - from), y: HEAD + 2 * TALL + 6, height: TALL - 12 }),
      svg("text", { class: "label", x: from, y: HEAD + 3 * TALL - 1 }, ms(row.gap_ms)));
  });
}

function marks(rows, x, began) {
  return rows.filter((row) => row.type in MARKS).map((row) => {
    const { lane, shape, name, up = 0 } = MARKS[row.type];
    const here = x(row.time);
    const said = `${length(row.time - began)} ${name}${details(row) ? `: ${details(row)}` : ""}`;
    return svg("g", { class: `mark ${row.type}`, transform: `translate(${here} ${middle(lane) - up})` }, svg("title", {}, said), drawn(shape), row.type === "handover" && svg("text", { class: "label", x: 9, y: 4 }, `${row.from_tier ?? "?"}→${row.to_tier ?? "?"} ${words(row.cause)}`));
  });
}

function drawn(shape) {
  const paths = { square: "M-5-5h10v10h-10z", diamond: "M0-7L7 0 0 7-7 0z", triangle: "M0-6L6 5H-6z", cross: "M-5-5L5 5M5-5L-5 5", tick: "M0-7V7" };
  return shape === "dot" ? svg("circle", { r: 5 }) : svg("path", { d: paths[shape], class: shape });
}

// Money as it adds up, in steps.
function spending(rows, x, end) {
  const charges = rows.filter((row) => row.type === "charge");
  const total = charges.reduce((sum, row) => sum + (row.nanodollars ?? 0), 0);
  if (!total) return [];
  const foot = HEAD + 6 * TALL - 4;
  let sum = 0;
  let path = `M${LEFT} ${foot}`;
  for (const row of charges) {
    sum += row.nanodollars ?? 0;
    path += `H${x(row.time).toFixed(1)}V${(foot - ((TALL - 12) * sum) / total).toFixed(1)}`;
  }
  path += `H${x(end).toFixed(1)}`;
  const label = svg("text", { class: "label", x: x(end) + 4, y: HEAD + 5 * TALL + 14 }, money(total / 1e9));
  return [svg("g", { class: "money" }, svg("path", { d: path }), label)];
}

const QUIET = new Set(["time", "type", "tier", "call_id", "user", "bucket", "usage", "parts", "response_id", "item_id", "tool_call_id", "answer_id", "text"]);

function details(row) {
  if (row.type === "handover") {
    const way = `${row.from_tier} ${row.from_rung ?? ""} → ${row.to_tier} ${row.to_rung ?? ""}`;
    return [`${way}: ${words(row.cause)}`, words(row.trigger), row.owed && `${count(row.owed, "answer")} owed`].filter(Boolean).join(", ");
  }
  return Object.entries(row)
    .filter(([name, value]) => !QUIET.has(name) && value !== null && value !== "" && value !== false && typeof value !== "object")
    .map(([name, value]) => detail(name, value))
    .join(", ");
}

function detail(name, value) {
  if (name === "ttfa_ms") return `first audio after ${ms(value)}`;
  if (name === "nanodollars") return money(value / 1e9);
  if (name.endsWith("_usd")) return `${words(name.slice(0, -4))} ${money(value)}`;
  if (name.endsWith("_ms") && typeof value === "number") return `${words(name.slice(0, -3))} ${ms(value)}`;
  return `${words(name)} ${typeof value === "string" ? words(value) : value}`;
}

function rowLine(row, began) {
  return el("li", { "data-type": row.type },
    el("time", {}, (row.time - began).toFixed(2)),
    el("span", { class: "badge small", "data-tier": row.tier }, row.tier || "–"),
    el("strong", {}, words(row.type)),
    details(row) && el("span", { class: "quiet" }, details(row)),
    row.text && el("q", {}, String(row.text)));
}
