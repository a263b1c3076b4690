// Rows of a timeline in words.

import { el } from "./dom.js";
import { count, money, ms, words } from "./format.js";

const QUIET = new Set(["time", "type", "tier", "call_id", "user", "bucket", "usage", "parts", "response_id", "item_id", "tool_call_id", "answer_id", "owed_at", "text"]);

// What a row says besides its type, without what was said in it.
export function details(row) {
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
  return `${words(name)} ${typeof value === "string" && !isName(name) ? words(value) : value}`;
}

// Ids and names are shown as they are, to be copied.
function isName(field) {
  return field.endsWith("_id") || field.endsWith("rung") || ["who", "model", "tool", "name"].includes(field);
}

export function rowLine(row, began) {
  return el("li", { "data-type": row.type },
    el("time", {}, (row.time - began).toFixed(2)),
    el("span", { class: "badge small", "data-tier": row.tier }, row.tier || "–"),
    el("strong", {}, words(row.type)),
    details(row) && el("span", { class: "quiet" }, details(row)),
    row.text && el("q", {}, String(row.text)));
}
