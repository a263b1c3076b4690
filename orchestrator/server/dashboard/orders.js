// Overrides and drills in force, and the dialogs that make, extend and end them. Each asks first, and says what will
// happen to how many calls.

import { get, request } from "./api.js";
import { confirm, field, input, openDialog, openForm, select, told } from "./dialogs.js";
import { drawing, el, keyed, sayEmpty, setAttribute, setText } from "./dom.js";
import { LIMITS, by, clock, count, duration, money, ms, scopeWords } from "./format.js";
import { callsBeyond, callsOf, model, now } from "./model.js";

const SCOPES = [["all", "All calls"], ["bucket", "A bucket"], ["purpose", "A purpose"], ["user", "A user"], ["call", "One call"]];
const TIMES = ["5m", "15m", "1h", "4h", "1d"];
let askAgain = () => {};

export function setUpOrders(onChanged) {
  askAgain = onChanged;
  document.getElementById("orders-tools").append(
    el("button", { type: "button", onclick: () => openForce({}) }, "Force a tier…"),
    el("button", { type: "button", onclick: openDrill }, "Start a drill…"),
  );
  drawing("orders", draw);
}

function draw() {
  const list = document.getElementById("orders-list");
  const overrides = (model.status?.overrides ?? []).filter((each) => each.until > now());
  const drills = model.drills.filter((drill) => drill.running);
  setAttribute(document.getElementById("orders-tools"), "hidden", model.readOnly);
  sayEmpty(list, overrides.length + drills.length ? "" : "None in force. Health and budgets decide.");
  keyed(list, [...overrides, ...drills], (each) => each.id, (each) => ("practice" in each ? makeDrill(each) : makeOverride(each)), update);
}

function makeOrder(...buttons) {
  return el(
    "article",
    { class: "order" },
    el("p", { class: "what" }),
    el("p", { class: "reason" }),
    el("p", { class: "why quiet" }),
    el("div", { class: "tools" }, ...buttons),
  );
}

function button(text, label, run) {
  return el("button", { type: "button", class: "small", "aria-label": label, onclick: run }, text);
}

function makeOverride({ id }) {
  const current = () => model.status.overrides.find((each) => each.id === id);
  return makeOrder(
    button("Extend…", `Extend override ${id}`, () => openExtend(current())),
    button("Clear…", `Clear override ${id}`, () => clear(current())),
  );
}

function makeDrill(drill) {
  return makeOrder(
    button("Report", `Report of drill ${drill.id}`, () => openReport(drill.id)),
    button("Stop…", `Stop drill ${drill.id}`, () => stop(drill)),
  );
}

function update(node, order) {
  const isDrill = "practice" in order;
  setAttribute(node, "data-kind", isDrill ? "drill" : "override");
  setAttribute(node, "data-id", order.id);
  setText(node.querySelector(".what"), isDrill ? drillWords(order) : overrideWords(order));
  setText(node.querySelector(".reason"), `“${order.reason}”`);
  const left = duration(order.until - now());
  setText(node.querySelector(".why"), `by ${by(order)} · ends ${clock(order.until)} (in ${left}) · ${order.id}`);
  for (const each of node.querySelectorAll("button")) {
    setAttribute(each, "hidden", model.readOnly && each.textContent !== "Report");
  }
}

const target = (order) => (order.rung ? `${order.tier}/${order.rung}` : order.tier);

function overrideWords(order) {
  const share = order.share < 100 ? `${order.share}% of new calls: ` : "";
  const at = order.when === "now" ? ", at once" : "";
  return `${LIMITS[order.limit]} ${target(order)} · ${share}${scopeWords(order.scope)}${at}`;
}

function drillWords(drill) {
  const practice = drill.practice === "degrade" ? "calls are handed over between turns" : "calls lose their provider";
  return `Drill: ${practice} · ${drill.share}% of new calls, at most ${drill.most} · ${scopeWords(drill.scope)}`;
}

// Making an override

export function openForce({ tier = "B", scope = "all" }) {
  const [kind, ...value] = scope.split(":");
  const rungs = (model.status?.rungs ?? []).filter((rung) => rung.tier);
  const targets = ["A", "B", "C"].flatMap((each) => [
    [each, `Tier ${each}`],
    ...rungs.filter((rung) => rung.tier === each).map((rung) => [`${each}/${rung.rung}`, `${each}: ${rung.rung} only`]),
  ]);
  openForm({
    title: "Force or limit a tier",
    name: "force",
    action: "Go on…",
    fields: [
      pair(
        field("What", select("limit", Object.entries({ ...LIMITS, force: "Force to" }))),
        field("Tier or rung", select("tier", targets, tier)),
      ),
      pair(
        field("Which calls", select("scope", SCOPES, kind)),
        field("Its name or id", input("value", { value: value.join(":"), placeholder: "not for all calls" })),
      ),
      pair(
        field("Per cent of them", input("share", { type: "number", min: 0.1, max: 100, step: "any", value: 100, required: true }), "Below 100: of new calls only."),
        field("When", select("when", [["next_turn", "At the next pause"], ["now", "At once"]])),
      ),
      lasts(),
      reasonField(),
      whoField(),
    ],
    submit: async ({ value, ...values }) => {
      const body = { ...values, scope: values.scope === "all" ? "all" : `${values.scope}:${value.trim()}`, share: Number(values.share) };
      const order = `${body.limit === "force" ? "force" : LIMITS[body.limit].toLowerCase()} ${body.tier}`;
      const title = `${order[0].toUpperCase()}${order.slice(1)}?`;
      if (!(await confirm({ title, lines: consequences(body), action: `Yes, ${order}` }))) return false;
      const made = await request("POST", "v1/overrides", body);
      await askAgain();
      told(`Override ${made.id} is in force until ${clock(made.until)}. The audit trail says so.`);
      return true;
    },
  });
}

function consequences({ limit, tier, scope, share, when, for: time }) {
  const { all, there } = callsOf(scope, tier);
  const moved = limit === "force" ? all - there : callsBeyond(limit, tier, scope);
  const how = when === "now" ? "at once, in the middle of an answer too" : "at their next pause";
  const past = { ceiling: "on something better", floor: "on something worse" }[limit];
  const held = limit === "force" ? `${there} are there already` : `the other ${all - moved} stay where they are`;
  return [
    share < 100
      ? `No call in progress moves. About ${share}% of the calls that begin from now on are held to it (${scopeWords(scope)}).`
      : `${count(moved, "live call")} of ${all} at this replica (${scopeWords(scope)}) will move to ${tier} ${how}${past ? `: they are ${past}` : ""}; ${held}.`,
    share < 100 ? null : "Other replicas do the same with theirs within a second, and new calls follow.",
    model.callsFound > model.calls.size ? `Only ${model.calls.size} of ${model.callsFound} live calls are known to this page: there may be more.` : null,
    "Hard caps and policy stay above it.",
    `It ends by itself after ${time}.`,
  ];
}

function pair(...fields) {
  return el("div", { class: "pair" }, ...fields);
}

function lasts(label = "For how long") {
  return el(
    "div",
    {},
    field(label, input("for", { value: "15m", required: true, list: "times", pattern: "(\\s*[0-9]+\\s*[smhdSMHD])+\\s*" }), "90s, 15m, 2h, 1d; it ends by itself."),
    el("datalist", { id: "times" }, ...TIMES.map((value) => el("option", { value }))),
  );
}

function reasonField(required = true) {
  return field("Reason", input("reason", { required, maxlength: 1000, placeholder: "Others read this: what is wrong?" }));
}

function whoField() {
  return field("Your name", input("who", { maxlength: 200, placeholder: "stands beside the key's name" }));
}

// Changing and ending them

function openExtend(override) {
  if (!override) return; // it has ended meanwhile
  openForm({
    title: `Extend ${override.id}`,
    name: "extend",
    action: "Go on…",
    fields: [el("p", {}, overrideWords(override)), lasts("For how long from now"), reasonField(false), whoField()],
    submit: async (body) => {
      const { all, there } = callsOf(override.scope, target(override));
      const lines = [
        `${overrideWords(override)}: it ends ${body.for} from now instead of at ${clock(override.until)}.`,
        `${count(all, "live call")} at this replica ${all === 1 ? "is" : "are"} in its scope, ${there} on ${target(override)} now; nothing else changes for them.`,
      ];
      if (!(await confirm({ title: `Extend ${override.id}?`, lines, action: "Yes, extend" }))) return false;
      const made = await request("PATCH", `v1/overrides/${encodeURIComponent(override.id)}`, body);
      await askAgain();
      told(`Override ${made.id} is in force until ${clock(made.until)}. The audit trail says so.`);
      return true;
    },
  });
}

async function clear(override) {
  if (!override) return; // it has ended meanwhile
  const { all, there } = callsOf(override.scope, target(override));
  const lines = [
    `${overrideWords(override)}: it ends now instead of at ${clock(override.until)}.`,
    `${count(all, "live call")} at this replica ${all === 1 ? "is" : "are"} in its scope, and decided anew at the next pause; the ${there} on ${target(override)} may leave it.`,
    "Other replicas do the same with theirs within a second.",
  ];
  if (!(await confirm({ title: `Clear ${override.id}?`, lines, action: "Yes, clear it" }))) return;
  await carryOut("DELETE", `v1/overrides/${encodeURIComponent(override.id)}`, `Override ${override.id} is cleared. The audit trail says so.`);
}

async function stop(drill) {
  const lines = [`${drillWords(drill)}: no call is handed over from now on.`, "Its report stays."];
  if (!(await confirm({ title: `Stop ${drill.id}?`, lines, action: "Yes, stop it" }))) return;
  await carryOut("DELETE", `v1/drills/${encodeURIComponent(drill.id)}`, `Drill ${drill.id} is stopped. The audit trail says so.`);
}

async function carryOut(method, path, said) {
  try {
    await request(method, path);
    told(said);
  } catch (error) {
    openDialog({ title: "That did not work", body: [el("p", {}, error.message)] });
  }
  await askAgain();
}

// Drills

function openDrill() {
  openForm({
    title: "Start a drill",
    name: "drill",
    action: "Go on…",
    fields: [
      field("What is practised", select("practice", [["degrade", "A handover between two turns"], ["lose_provider", "The provider is lost in a turn"]])),
      pair(field("Which calls", select("scope", SCOPES)), field("Its name or id", input("value", { placeholder: "not for all calls" }))),
      pair(
        field("Per cent of new calls", input("share", { type: "number", min: 0.1, max: 100, step: "any", value: 5, required: true })),
        field("At most so many calls", input("calls", { type: "number", min: 1, value: 100, required: true })),
      ),
      pair(lasts(), field("Lost turns that end it", input("wrong", { type: "number", min: 1, value: 1, required: true }))),
      reasonField(),
      whoField(),
    ],
    submit: async ({ value, ...values }) => {
      const numbers = { share: Number(values.share), calls: Number(values.calls), wrong: Number(values.wrong) };
      const body = { ...values, ...numbers, scope: values.scope === "all" ? "all" : `${values.scope}:${value.trim()}` };
      const strikes = body.practice === "degrade" ? "handed over between two turns" : "taken from their provider in the middle of a turn";
      const lines = [
        `About ${body.share}% of the calls that begin from now on (${scopeWords(body.scope)}), at most ${body.calls}, are ${strikes}: real callers hear it.`,
        `The ${count(callsOf(body.scope).all, "call")} in progress ${callsOf(body.scope).all === 1 ? "is" : "are"} left alone.`,
        `It ends by itself after ${body.for}, or once ${count(body.wrong, "call")} lost a turn.`,
      ];
      if (!(await confirm({ title: "Start the drill?", lines, action: "Yes, start the drill" }))) return false;
      const made = await request("POST", "v1/drills", body);
      await askAgain();
      told(`Drill ${made.id} goes on until ${clock(made.until)}. The audit trail says so.`);
      return true;
    },
  });
}

async function openReport(id) {
  const figures = el("dl", { class: "figures" }, el("dd", {}, "…"));
  openDialog({ title: `Drill ${id}`, body: [figures], name: "report" });
  try {
    const { report } = await get(`v1/drills/${encodeURIComponent(id)}`);
    const spread = (of, write) => `median ${write(of.p50)}, 95th percentile ${write(of.p95)}, longest ${write(of.max)}`;
    const seconds = (value) => (value === null ? "–" : `${value} s`);
    const rows = [
      ["Calls handed over", report.calls],
      ["Waiting for it", report.waiting],
      ["Left alone", report.skipped],
      ["Turns answered", report.turns_answered],
      ["Turns lost", report.turns_lost],
      ["Silence", spread(report.gap_ms, ms)],
      ["Bridges", report.bridges],
      ["Back in Tier A after", spread(report.back_s, seconds)],
      ["Not back", report.not_back],
      ["Charged meanwhile", money(report.cost_usd)],
    ];
    figures.replaceChildren(...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]));
  } catch (error) {
    figures.replaceChildren(el("dd", {}, error.message));
  }
}
