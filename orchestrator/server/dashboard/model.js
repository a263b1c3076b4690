// What the page knows, and how rows of the timeline and answers of the API change it. Nothing here touches the page.

const LATEST_GAPS = 1000;

export const model = {
  status: null,
  heardAt: 0, // performance.now() of the last answer
  skew: 0, // the server's clock less ours, in seconds
  stream: "off", // off, live, waiting, denied
  readOnly: false, // the key may look and change nothing
  problem: null, // the last ApiError of a poll; null while all is well
  calls: new Map(),
  callsFound: 0,
  drills: [],
  history: null,
  changes: new Map(), // by rung, the oldest first
  gaps: [],
};

export function now() {
  return Date.now() / 1000 + model.skew;
}

export function takeStatus(status) {
  model.status = status;
  model.heardAt = performance.now();
  model.skew = status.now - Date.now() / 1000;
  for (const rung of status.rungs) noteBreaker(rung, status.now);
}

// A breaker that changed since the history was read: so that "since" is right at once.
function noteBreaker(rung, at) {
  const changes = model.changes.get(rung.rung);
  if (!changes || rung.breaker === "half_open") return;
  const last = changes.at(-1);
  if (last?.at > at) return; // the history was asked for later
  if ((last?.state ?? "closed") !== rung.breaker) changes.push({ at, state: rung.breaker, cause: rung.cause ?? "" });
}

export function takeHistory(history) {
  model.history = history;
  model.changes = new Map(history.breakers.map((each) => [each.rung, each.changes]));
  model.gaps = history.gaps;
}

// Calls as GET /v1/calls tells them.
export function takeCalls({ calls, found }) {
  model.callsFound = found;
  replaceCalls(calls);
}

// Calls as a key for figures sees them, in /v1/status.
export function takeStatusCalls(calls) {
  model.callsFound = calls.length;
  replaceCalls(calls.map((call) => ({ tiers: [call.tier], turns: null, handovers: null, last_handover_at: null, longest_gap_ms: null, ...call })));
}

function replaceCalls(calls) {
  const wanted = new Set();
  for (const call of calls) {
    wanted.add(call.call_id);
    const known = model.calls.get(call.call_id);
    if (known) Object.assign(known, call);
    else model.calls.set(call.call_id, call);
  }
  for (const id of model.calls.keys()) if (!wanted.has(id)) model.calls.delete(id);
}

// One row of the timeline. Says what it has changed: names of drawings, and "unknown" for a call never heard of.
export function takeRow(row) {
  if (row.type === "gap") takeGap(row);
  if (row.type === "override" || row.type === "override_ended") return ["orders", "status"];
  if (!row.call_id) return [];
  const call = model.calls.get(row.call_id);
  if (row.type === "call_ended") {
    if (model.calls.delete(row.call_id)) model.callsFound -= 1;
    return ["calls", "tiers"];
  }
  if (!call) return row.type === "call_started" ? ["unknown"] : row.type === "gap" ? ["gaps"] : [];
  return changed(call, row);
}

function changed(call, row) {
  switch (row.type) {
    case "handover":
      call.handovers = (call.handovers ?? 0) + 1;
      call.last_handover_at = row.time;
      if (call.tiers.at(-1) !== row.to_tier) call.tiers = [...call.tiers, row.to_tier];
      call.tier = row.to_tier;
      call.rung = row.to_rung ?? call.rung;
      call.reason = row.cause ?? call.reason;
      return ["calls", "tiers"];
    case "charge":
      call.spent_usd += (row.nanodollars ?? 0) / 1e9;
      return ["calls"];
    case "turn_ended":
      call.turns = (call.turns ?? 0) + 1;
      return ["calls"];
    case "gap":
      call.longest_gap_ms = Math.max(call.longest_gap_ms ?? 0, row.gap_ms ?? 0);
      return ["calls", "gaps"];
    default:
      return [];
  }
}

function takeGap(row) {
  model.gaps.push({ at: row.time, tier: row.tier, trigger: row.trigger ?? "", cause: row.cause ?? "", gap_ms: row.gap_ms ?? 0 });
  if (model.gaps.length > LATEST_GAPS) model.gaps.shift();
  if (model.history) model.history.gaps_seen += 1;
}

// Live calls that a scope names.
function callsIn(scope) {
  const [kind, ...rest] = String(scope).split(":");
  const field = { call: "call_id", user: "user", purpose: "purpose", bucket: "bucket" }[kind];
  const calls = [...model.calls.values()];
  return kind === "all" ? calls : calls.filter((call) => call[field] === rest.join(":"));
}

// How many live calls a scope names, and how many of these are on a target ("B", "A/gpt-realtime-2.1").
export function callsOf(scope, target = "") {
  const calls = callsIn(scope);
  return { all: calls.length, there: calls.filter((call) => isOn(call, target)).length };
}

function isOn(call, target) {
  const [tier, ...rung] = target.split("/");
  return call.tier === tier && (!rung.length || call.rung === rung.join("/"));
}

// How many live calls of a scope are better than a ceiling allows, or worse than a floor does. Rungs are in order.
export function callsBeyond(limit, target, scope) {
  const rungs = (model.status?.rungs ?? []).filter((rung) => rung.tier).sort((a, b) => (a.tier < b.tier ? -1 : a.tier > b.tier ? 1 : 0));
  const meant = rungs.map((rung, rank) => (isOn({ tier: rung.tier, rung: rung.rung }, target) ? rank : -1)).filter((rank) => rank >= 0);
  const rankOf = (call) => rungs.findIndex((rung) => rung.tier === call.tier && rung.rung === call.rung);
  const beyond = (rank) => (limit === "ceiling" ? rank < Math.min(...meant) : rank > Math.max(...meant));
  return callsIn(scope).filter((call) => rankOf(call) >= 0 && beyond(rankOf(call))).length;
}

// At the present pace; null where the day is too young to tell. The same sum as `orchestrator budget` does.
export function projected(spent, at) {
  const passed = at % 86_400;
  return passed < 3_600 ? null : (spent * 86_400) / passed;
}
