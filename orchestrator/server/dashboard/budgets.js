// Budgets: what each bucket has spent since midnight UTC, what is set aside, and where the day is going.

import { drawing, el, keyed, sayEmpty, setAttribute, setText } from "./dom.js";
import { money } from "./format.js";
import { model, now, projected } from "./model.js";

export function setUpBudgets() {
  drawing("budgets", draw);
}

function draw() {
  const list = document.getElementById("budgets-list");
  const buckets = model.status?.buckets ?? [];
  sayEmpty(list, buckets.length ? "" : "No money was spent today, and no bucket has a limit.");
  keyed(list, buckets, (bucket) => bucket.bucket, make, update);
}

function make() {
  return el(
    "div",
    { class: "budget" },
    el("div", { class: "line" }, el("strong", { class: "name" }), el("span", { class: "amount" })),
    el("div", { class: "bar", role: "img" }, el("span", { class: "spent" }), el("span", { class: "reserved" }), el("span", { class: "ahead" })),
    el("p", { class: "why quiet" }),
  );
}

function update(node, bucket) {
  const { spent_usd: spent, reserved_usd: reserved, cap_usd: cap } = bucket;
  const ahead = projected(spent, now());
  const share = cap ? spent / cap : cap === 0 ? 1 : 0;
  const over = cap !== null && ahead !== null && ahead > cap;
  const level = cap === null ? "off" : share >= 0.9 ? "bad" : share >= 0.6 || over ? "warn" : "good";
  setAttribute(node, "data-level", level);
  setText(node.querySelector(".name"), bucket.bucket);
  setText(node.querySelector(".amount"), cap === null ? `${money(spent)}, no limit` : `${money(spent)} of ${money(cap)}`);
  const bar = node.querySelector(".bar");
  setAttribute(bar, "hidden", cap === null);
  // As wide as the limit, or as what is ahead where that is more.
  const whole = Math.max(cap ?? 0, over ? Math.min(ahead, 2 * cap) : 0) || 1;
  const percent = (usd) => `${Math.min(100, (100 * usd) / whole).toFixed(2)}%`;
  bar.querySelector(".spent").style.width = cap === 0 ? "100%" : percent(spent);
  bar.querySelector(".reserved").style.width = percent(reserved);
  bar.querySelector(".ahead").style.insetInlineStart = percent(ahead ?? 0);
  setAttribute(bar.querySelector(".ahead"), "hidden", ahead === null || !cap);
  setAttribute(bar, "aria-label", `${Math.round(share * 100)} per cent spent`);
  setText(node.querySelector(".why"), said(cap, share, reserved, ahead, over));
}

function said(cap, share, reserved, ahead, over) {
  const told = [];
  if (cap !== null) told.push(share >= 1 ? "spent up: calls go on without paid rungs" : `${Math.round(share * 100)}% spent`);
  if (reserved) told.push(`${money(reserved)} set aside`);
  if (ahead !== null) told.push(`${money(ahead)} by the end of the day${over ? ", over its limit" : ""}`);
  else told.push("too early to say where the day is going");
  return told.join(" · ");
}
