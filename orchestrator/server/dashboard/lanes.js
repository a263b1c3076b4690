// The picture of a call: a lane each for tier, speech in and out, handovers, tools and money.

import { el, setAttribute, svg } from "./dom.js";
import { count, length, money, ms, words } from "./format.js";
import { details } from "./rows.js";

const LANES = ["Tier", "Speech in", "Speech out", "Handovers", "Tools", "Money"];
const TALL = 34;
const HEAD = 22;
const LEFT = 86;
const RIGHT = 60;
const LEAST = 640;
const PER_SECOND = 4; // pixels, at least: a long call is scrolled
const LETTER = 6.2; // pixels of a label, on average and rather more
// Rows that are marks in a lane: what they are called, how they are drawn, and so far before a handover that follows at once.
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
  provider_lost: { lane: 3, back: 14, shape: "cross", name: "provider lost" },
  provider_error: { lane: 3, back: 14, shape: "cross", name: "provider's error" },
  drill: { lane: 3, shape: "square", name: "drill" },
  latency_breach: { lane: 3, back: 14, shape: "triangle", name: "latency budget exceeded" },
  tool_call: { lane: 4, shape: "square", name: "tool asked for" },
  tool_result: { lane: 4, shape: "dot", name: "tool's result" },
  tool_confirmation: { lane: 4, shape: "tick", name: "consent" },
  tool_approval: { lane: 4, shape: "diamond", name: "approval" },
  transfer: { lane: 4, shape: "triangle", name: "transfer to a person" },
  budget_step: { lane: 5, shape: "triangle", name: "a step cheaper" },
  budget_spent: { lane: 5, shape: "cross", name: "budget spent" },
};

// Draws `rows` from `began` to `end` (Unix seconds) into an SVG element that is to be `least` pixels wide. Returns where a
// moment stands in it.
export function drawLanes(picture, { call, rows, began, end, least }) {
  const seconds = Math.max(1, end - began);
  const width = Math.max(LEAST, least, Math.min(12_000, LEFT + seconds * PER_SECOND));
  const x = (time) => LEFT + ((width - LEFT - RIGHT) * (time - began)) / seconds;
  const height = HEAD + LANES.length * TALL + 4;
  setAttribute(picture, "viewBox", `0 0 ${width} ${height}`);
  setAttribute(picture, "width", width);
  setAttribute(picture, "height", height);
  setAttribute(picture, "aria-label", spoken(call, rows));
  picture.replaceChildren(
    ...grid(x, began, seconds, width),
    ...tiers(rows, x, began, end),
    ...silences(rows, x),
    ...marks(rows, x, began),
    ...spending(rows, x, end),
  );
  return x;
}

// Where a recording is being played.
export function playhead(at) {
  return svg("line", { class: "playhead", x1: at, x2: at, y1: HEAD - 4, y2: HEAD + LANES.length * TALL });
}

function spoken(call, rows) {
  const of = (type) => rows.filter((row) => row.type === type).length;
  return `Timeline of ${call.call_id}: tiers ${call.tiers.join(", ")}; ${count(of("answer"), "answer")}, ${count(of("handover"), "handover")}, ${count(of("tool_call"), "tool call")}. Every row is in the list below.`;
}

export function legend() {
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

// How wide a mark's label may be: until the next mark in its lane.
function roomAfter(marked, index, x) {
  const { lane } = MARKS[marked[index].type];
  const next = marked.find((row, at) => at > index && MARKS[row.type].lane === lane);
  return next ? x(next.time) - x(marked[index].time) - 20 : Infinity;
}

function labelOf(row, room) {
  const way = `${row.from_tier ?? "?"}→${row.to_tier ?? "?"}`;
  const told = [`${way} ${words(row.cause)}`, way, ""];
  return told.find((text) => text.length * LETTER <= room) ?? "";
}

// A gap is told when the first sound after it came: it is the time before that.
function silences(rows, x) {
  return rows.filter((row) => row.type === "gap" && row.gap_ms >= 1).map((row) => {
    const from = x(row.time - row.gap_ms / 1000);
    return svg("g", { class: "silence" },
      svg("title", {}, `silence of ${ms(row.gap_ms)}: ${words(row.cause)}`),
      svg("rect", { x: from, width: Math.max(2, x(row.time) - from), y: HEAD + 2 * TALL + 5, height: TALL - 17 }),
      svg("text", { class: "label", x: from, y: HEAD + 3 * TALL - 1 }, ms(row.gap_ms)));
  });
}

function marks(rows, x, began) {
  const marked = rows.filter((row) => row.type in MARKS);
  return marked.map((row, index) => {
    const { lane, shape, name, back = 0 } = MARKS[row.type];
    const here = x(row.time);
    const said = `${length(row.time - began)} ${name}${details(row) ? `: ${details(row)}` : ""}`;
    return svg("g", { class: `mark ${row.type}`, transform: `translate(${here - back} ${middle(lane)})` }, svg("title", {}, said), drawn(shape), row.type === "handover" && svg("text", { class: "label", x: 9, y: 4 }, labelOf(row, roomAfter(marked, index, x))));
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
