// Tiers, their rungs and breakers: how each stands, since when, why, and how it was before.

import { drawing, el, keyed, setAttribute, setText, svg } from "./dom.js";
import { STATES, TIERS, clock, count, duration, words } from "./format.js";
import { model, now } from "./model.js";
import { openForce } from "./orders.js";

const STRIP_S = 3600;
const STRIP = { width: 240, height: 14 };

export function setUpTiers() {
  drawing("tiers", draw);
}

function draw() {
  const status = model.status;
  if (!status) return;
  const perTier = new Map();
  for (const call of model.calls.values()) perTier.set(call.tier, (perTier.get(call.tier) ?? 0) + 1);
  const tiers = ["A", "B", "C"].map((tier) => ({
    tier,
    calls: perTier.get(tier) ?? 0,
    next: status.next_call.tier === tier ? status.next_call : null,
    rungs: status.rungs.filter((rung) => rung.tier === tier),
    parts: tier === "B" ? status.rungs.filter((rung) => rung.tier === null) : [],
  }));
  keyed(document.getElementById("tier-cards"), tiers, (each) => each.tier, makeCard, updateCard);
}

function makeCard({ tier }) {
  const node = el(
    "article",
    { class: "card tier", "data-tier": tier, "aria-labelledby": `tier-${tier}` },
    el(
      "div",
      { class: "heading" },
      el("h3", { id: `tier-${tier}` }, el("span", { class: "badge", "data-tier": tier }, tier), ` ${TIERS[tier]}`),
      el("button", { type: "button", class: "small force", onclick: () => openForce({ tier }) }, "Force…"),
    ),
    el("p", { class: "summary" }),
    el("p", { class: "next" }),
    el("ul", { class: "rungs" }),
    tier === "B" && el("h4", {}, "Parts"),
    tier === "B" && el("ul", { class: "rungs parts" }),
  );
  return node;
}

function updateCard(node, { tier, calls, next, rungs, parts }) {
  const usable = rungs.filter((rung) => !rung.missing && (rung.breaker === "closed" || rung.breaker === "canary"));
  const whole = rungs.every((rung) => !rung.missing && rung.breaker === "closed");
  const level = whole ? "good" : usable.length ? "warn" : "bad";
  const word = whole ? "Takes calls" : usable.length ? "Takes calls, not on all rungs" : "Takes no calls";
  setAttribute(node, "data-level", level);
  setText(node.querySelector(".summary"), `${word} · ${count(calls, "live call")}`);
  const begins = next?.rung ? `The next call begins on ${next.rung}` : "No call can begin";
  const told = next ? `${begins}: ${words(next.reason)}` : "";
  setText(node.querySelector(".next"), told);
  setAttribute(node.querySelector(".force"), "hidden", model.readOnly);
  setAttribute(node.querySelector(".force"), "aria-label", `Force tier ${tier}…`);
  keyed(node.querySelector(".rungs"), rungs, (rung) => rung.rung, makeRung, updateRung);
  if (parts.length) keyed(node.querySelector(".parts"), parts, (rung) => rung.rung, makeRung, updateRung);
  const heading = node.querySelector("h4");
  if (heading) setAttribute(heading, "hidden", !parts.length);
}

function makeRung() {
  return el(
    "li",
    {},
    el(
      "div",
      { class: "line" },
      el("span", { class: "state" }, el("span", { class: "mark", "aria-hidden": "true" }), el("span", { class: "word" })),
      el("span", { class: "name" }),
    ),
    el("p", { class: "why quiet" }),
    svg("svg", { class: "strip", viewBox: `0 0 ${STRIP.width} ${STRIP.height}`, preserveAspectRatio: "none", role: "img" }),
    el("details", { class: "before" }, el("summary", {}, "Before"), el("ol", {})),
  );
}

function updateRung(node, rung) {
  const state = rung.missing ? STATES.missing : STATES[rung.breaker];
  const changes = model.changes.get(rung.rung) ?? [];
  setAttribute(node, "data-level", state.level);
  setAttribute(node, "data-rung", rung.rung);
  setText(node.querySelector(".mark"), state.mark);
  setText(node.querySelector(".word"), state.word);
  setText(node.querySelector(".name"), rung.rung);
  // A part that has always worked needs no more than a line.
  const plain = rung.tier === null && !changes.length && !rung.missing;
  setText(node.querySelector(".why"), plain ? "" : why(rung, changes));
  setAttribute(node.querySelector("svg"), "hidden", plain);
  if (!plain) drawStrip(node.querySelector("svg"), rung, changes);
  const before = node.querySelector("details");
  setAttribute(before, "hidden", !changes.length);
  const latest = changes.slice(-8).reverse();
  keyed(before.querySelector("ol"), latest, (change) => `${change.at} ${change.state}`, () => el("li", {}), updateChange);
}

function updateChange(node, change) {
  const cause = change.cause ? `: ${words(change.cause)}` : "";
  setText(node, `${clock(change.at, true)} ${STATES[change.state].word.toLowerCase()}${cause}`);
}

function why(rung, changes) {
  if (rung.missing) return words(rung.missing);
  const said = [];
  const last = changes.at(-1);
  const since = last?.at ?? model.history?.began;
  if (rung.breaker !== "closed" && rung.cause) said.push(words(rung.cause));
  if (since) said.push(`since ${clock(since)}${last ? ` (${duration(now() - since)})` : ", when this replica started"}`);
  if (rung.breaker !== "closed" && rung.next_probe_at) {
    const wait = rung.next_probe_at - now();
    said.push(wait > 0 ? `next probe in ${Math.ceil(wait)} s` : "a probe is due");
  }
  return said.join(" · ");
}

// The last hour as a strip: what is not working is drawn lower and hatched as well as in another colour.
function drawStrip(node, rung, changes) {
  const end = now();
  const began = Math.max(end - STRIP_S, model.history?.began ?? end);
  const spans = [];
  let state = "closed";
  let from = began;
  for (const change of changes) {
    if (change.at > began) spans.push({ state, from, to: change.at });
    state = change.state;
    from = Math.max(change.at, began);
  }
  spans.push({ state, from, to: end });
  const at = (time) => STRIP.width * (1 - (end - time) / STRIP_S);
  keyed(node, spans, (span) => `${span.from}`, () => svg("rect", {}), (rect, span) => {
    const low = span.state === "open" || span.state === "half_open";
    setAttribute(rect, "class", span.state);
    setAttribute(rect, "x", at(span.from).toFixed(2));
    setAttribute(rect, "width", Math.max(0.8, at(span.to) - at(span.from)).toFixed(2));
    setAttribute(rect, "y", low ? 8 : 0);
    setAttribute(rect, "height", low ? 6 : span.state === "canary" ? 10 : 6);
  });
  const away = spans.filter((span) => span.state !== "closed").reduce((sum, span) => sum + span.to - span.from, 0);
  const told = away ? `out of use or on trial for ${duration(away)} of the last hour` : "working for the last hour";
  setAttribute(node, "aria-label", `${rung.rung}: ${told}`);
}
