// Fallback latency: the silences that callers heard at handovers, as a distribution and by cause.

import { drawing, el, keyed, setAttribute, setText, svg } from "./dom.js";
import { clock, count, ms, words } from "./format.js";
import { model } from "./model.js";

const EDGES = [0, 50, 100, 200, 300, 500, 800, 1200, 2000, 5000, Infinity];
const CHART = { width: 320, height: 96, foot: 16 };
const LATE_MS = 800; // what callers begin to notice as a hole

export function setUpGaps() {
  const body = document.getElementById("gaps-body");
  body.append(
    el("p", { class: "figures" }),
    svg("svg", { class: "chart", viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img" }),
    el("p", { class: "why quiet" }),
    el("table", { class: "plain" },
      el("thead", {}, el("tr", {}, ...["Cause", "How often", "Median", "Longest"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {})),
  );
  drawing("gaps", draw);
}

function draw() {
  const body = document.getElementById("gaps-body");
  const gaps = model.gaps;
  const sorted = gaps.map((gap) => gap.gap_ms).sort((a, b) => a - b);
  setAttribute(body, "data-none", !gaps.length);
  const at = (share) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  const figures = gaps.length
    ? `Median ${ms(at(0.5))} · 95th percentile ${ms(at(0.95))} · longest ${ms(sorted.at(-1))}`
    : "No caller has waited at a handover.";
  setText(body.querySelector(".figures"), figures);
  drawChart(body.querySelector("svg"), sorted, figures);
  setText(body.querySelector(".why"), gaps.length ? told(gaps) : "");
  keyed(body.querySelector("tbody"), byCause(gaps), (each) => each.cause, makeRow, updateRow);
}

function told(gaps) {
  const seen = model.history?.gaps_seen ?? gaps.length;
  const first = seen > gaps.length ? `the latest ${gaps.length} of ${count(seen, "handover")}` : count(seen, "handover");
  return `Silence until the first sound after it: ${first} at this replica, since ${clock(gaps[0].at)}.`;
}

function drawChart(node, sorted, figures) {
  const bins = EDGES.slice(0, -1).map((from, index) => ({ from, to: EDGES[index + 1], n: 0 }));
  for (const value of sorted) bins.find((bin) => value < bin.to).n += 1;
  const most = Math.max(1, ...bins.map((bin) => bin.n));
  const wide = CHART.width / bins.length;
  const tall = CHART.height - CHART.foot - 12;
  setAttribute(node, "aria-label", `Distribution. ${figures}`);
  keyed(node, bins, (bin) => String(bin.from), makeBin, (group, bin) => {
    const index = EDGES.indexOf(bin.from);
    const height = bin.n ? Math.max(2, (tall * bin.n) / most) : 0;
    const [rect, number, label] = group.children;
    setAttribute(rect, "x", index * wide + 2);
    setAttribute(rect, "width", wide - 4);
    setAttribute(rect, "y", CHART.height - CHART.foot - height);
    setAttribute(rect, "height", height);
    setAttribute(rect, "class", bin.from >= LATE_MS ? "late" : "soon");
    setAttribute(number, "x", (index + 0.5) * wide);
    setAttribute(number, "y", CHART.height - CHART.foot - height - 3);
    setText(number, bin.n || "");
    setAttribute(label, "x", index * wide);
    setAttribute(label, "y", CHART.height - 4);
    setText(label, edge(bin.from));
  });
}

const edge = (value) => (value < 1000 ? String(value) : `${value / 1000} s`);

function makeBin() {
  return svg("g", {}, svg("rect"), svg("text", { class: "number", "text-anchor": "middle" }), svg("text", { class: "label" }));
}

function byCause(gaps) {
  const found = new Map();
  for (const { cause, gap_ms } of gaps) {
    const times = found.get(cause) ?? [];
    times.push(gap_ms);
    found.set(cause, times);
  }
  return [...found]
    .map(([cause, times]) => ({ cause, times: times.sort((a, b) => a - b) }))
    .sort((a, b) => b.times.length - a.times.length)
    .slice(0, 6);
}

function makeRow() {
  return el("tr", {}, el("th", { scope: "row" }), el("td"), el("td"), el("td"));
}

function updateRow(row, { cause, times }) {
  const [name, often, median, longest] = row.children;
  setText(name, words(cause) || "not told");
  setText(often, times.length);
  setText(median, ms(times[Math.ceil(times.length / 2) - 1]));
  setText(longest, ms(times.at(-1)));
}
