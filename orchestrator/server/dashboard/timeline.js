// One call in a dialog: the picture of it, every row below, and its recording where there is one. It goes on as the call does.

import { follow, get } from "./api.js";
import { openDialog } from "./dialogs.js";
import { el, setAttribute, setText, svg } from "./dom.js";
import { clock, count, length, money, ms } from "./format.js";
import { drawLanes, legend, playhead } from "./lanes.js";
import { Listening } from "./listening.js";
import { model, now } from "./model.js";
import { openForce } from "./orders.js";
import { rowLine } from "./rows.js";

const MOST_ROWS = 600;

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
    this.listening = new Listening(id, () => this.drawSoon());
    this.scroll = el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Timeline" }, this.picture);
    this.list = el("ol", { class: "rows" });
    this.box = el("input", { type: "checkbox", onchange: (event) => this.showText(event.target.checked) });
    this.force = el("button", { type: "button", onclick: () => openForce({ scope: `call:${id}` }) }, "Force this call…");
    this.tools = el("div", { class: "tools" }, el("label", { class: "check" }, this.box, " Show what was said"), this.force);
    this.dialog = openDialog({
      title: `Call ${id}`,
      name: "timeline",
      wide: true,
      body: [this.problem, this.facts, this.tools, this.listening.node, this.scroll, legend(), this.list],
    });
    this.dialog.done.then(() => this.end());
  }

  end() {
    clearInterval(this.clock);
    this.stop?.();
    this.listening.end();
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
    setAttribute(this.force, "hidden", model.readOnly || !call.live);
    const x = drawLanes(this.picture, { call, rows: this.rows, began, end, least: this.scroll.clientWidth - 18 });
    this.drawList(began);
    this.listening.follow(this.rows, call.live, (time) => this.picture.append(playhead(x(time))));
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
