// The page: asks the API, follows its events, and draws what has changed, at most once per frame.

import { ApiError, follow, get, key } from "./api.js";
import { setUpBudgets } from "./budgets.js";
import { setUpCalls } from "./calls.js";
import { field, input, notice, openForm } from "./dialogs.js";
import { frames, redraw, setAttribute, setText } from "./dom.js";
import { clock, duration } from "./format.js";
import { setUpGaps } from "./gaps.js";
import { model, now, takeCalls, takeHistory, takeRow, takeStatus, takeStatusCalls } from "./model.js";
import { setUpOrders } from "./orders.js";
import { setUpTiers } from "./tiers.js";

const EVERY_MS = { status: 2000, calls: 15_000, drills: 10_000, history: 30_000 };
const STALE_MS = 7000;
const ALL = ["tiers", "calls", "orders", "budgets", "gaps"];
const TYPES = ["call_started", "call_ended", "handover", "charge", "turn_ended", "gap", "override", "override_ended"];

const polls = new Map(); // name: { timer, running, again }
let stopFollowing = null;
let session = 0; // goes up with every key: answers to an older one count for nothing
let keyForm = null;

const ASK = {
  status: async () => {
    const status = await get(`v1/status?calls=${model.readOnly}`);
    return () => {
      takeStatus(status);
      if (model.readOnly) takeStatusCalls(status.calls);
      redraw("tiers", "orders", "budgets", ...(model.readOnly ? ["calls"] : []));
    };
  },
  calls: async () => {
    const calls = await get("v1/calls?limit=1000");
    return () => {
      takeCalls(calls);
      redraw("calls", "tiers");
    };
  },
  drills: async () => {
    const { drills } = await get("v1/drills");
    return () => {
      model.drills = drills;
      redraw("orders");
    };
  },
  history: async () => {
    const history = await get("v1/history");
    return () => {
      takeHistory(history);
      redraw("gaps", "tiers");
    };
  },
};

// Polls one thing for as long as this session lasts. An answer that is late does not make a second request.
async function poll(name, mine = session) {
  const state = polls.get(name) ?? { running: false, again: false };
  polls.set(name, state);
  clearTimeout(state.timer);
  if (state.running) {
    state.again = true;
    return;
  }
  state.running = true;
  let wait = EVERY_MS[name];
  try {
    const take = await ASK[name]();
    if (mine === session) {
      take();
      if (name === "status") solved();
    }
  } catch (error) {
    if (mine === session) wait = Math.max(wait, failed(name, error));
  } finally {
    state.running = false;
  }
  if (mine !== session || (model.readOnly && (name === "calls" || name === "drills"))) return;
  const { again } = state;
  state.again = false;
  if (again) await poll(name, mine);
  else state.timer = setTimeout(() => (document.hidden ? later(name, mine) : poll(name, mine)), wait);
}

// A page that nobody sees asks for nothing; it catches up when it is looked at again.
function later(name, mine) {
  document.addEventListener("visibilitychange", () => mine === session && poll(name, mine), { once: true });
}

function solved() {
  model.problem = null;
  connection();
}

function failed(name, error) {
  if (!(error instanceof ApiError)) throw error;
  if (error.status === 401) {
    end();
    model.problem = error;
    askForKey(error);
  } else if (error.status === 403 && name !== "status" && name !== "history") {
    readOnly();
  } else if (name === "status" || error.status === 403) {
    model.problem = error;
    if (error.code === "scope_missing" || error.code === "credential_for_one_call") end();
  }
  connection();
  return error.retryAfter * 1000;
}

function readOnly() {
  if (model.readOnly) return;
  model.readOnly = true;
  model.stream = "denied";
  stopFollowing?.();
  redraw(...ALL);
  poll("status");
}

function begin() {
  end();
  Object.assign(model, { readOnly: false, problem: null, stream: "off", heardAt: 0, status: null, history: null, drills: [], gaps: [], callsFound: 0 });
  model.changes.clear();
  model.calls.clear();
  stopFollowing = follow(TYPES.map((type) => `type=${type}`).join("&"), { row: takeEvent, state: streamIs });
  for (const name of Object.keys(ASK)) poll(name);
}

function end() {
  session += 1;
  stopFollowing?.();
  stopFollowing = null;
  for (const state of polls.values()) clearTimeout(state.timer);
  polls.clear();
}

function takeEvent(row) {
  if (row.type === "events_missed" || row.type === "events_cut_off") {
    soon("calls");
    soon("history");
    return;
  }
  for (const changed of takeRow(row)) {
    if (changed === "unknown") soon("calls");
    else if (changed === "status") soon("status");
    else redraw(changed);
  }
}

// Calls that begin by the dozen are asked for together.
const sooner = new Map();
function soon(name) {
  if (sooner.has(name)) return;
  const wait = name === "calls" ? Math.max(500, Math.min(3000, model.calls.size * 3)) : 50;
  sooner.set(name, setTimeout(() => {
    sooner.delete(name);
    if (polls.has(name)) poll(name);
  }, wait));
}

function streamIs(state, error) {
  if (state === "denied" && error.status === 403) readOnly();
  model.stream = state;
  connection();
}

// What the page says about itself

function connection() {
  const age = model.heardAt ? performance.now() - model.heardAt : Infinity;
  const { problem } = model;
  const stale = age > STALE_MS;
  const state = !model.status ? "off" : stale ? "stale" : model.stream === "live" ? "live" : "polled";
  const words = { off: "Not connected", stale: "Out of date", live: "Live", polled: "Every 2 s" }[state];
  setAttribute(document.getElementById("live"), "data-state", state);
  setText(document.getElementById("live-text"), words);
  setAttribute(document.body, "data-stale", stale && model.status !== null);
  setText(document.getElementById("as-of"), model.status ? `as of ${clock(model.status.now, true)}` : "");
  setText(document.getElementById("replica"), model.status ? `replica ${model.status.replica}` : "");
  notices(problem, stale);
}

function notices(problem, stale) {
  const old = stale && model.status ? ` What is shown is as of ${clock(model.status.now, true)}, and out of date.` : "";
  const wants = { name: "Enter a key", run: () => askForKey() };
  if (problem?.code === "missing_api_key" && !model.status) notice("problem", "bad", "No data without a key.", wants);
  else if (problem?.status === 401) notice("problem", "bad", `${model.status ? "The key does not work any more" : "No data"}: ${problem.message}${old}`, wants);
  else if (problem?.status === 403) notice("problem", "bad", `This key may not see this: ${problem.message}`, wants);
  else if (problem) notice("problem", "bad", `${problem.message}${old} Trying again.`);
  else if (old) notice("problem", "bad", `Nothing was heard from the server for a while.${old} Trying again.`);
  else notice("problem", "bad", "");
  const store = model.status?.store;
  const away = store && !store.connected;
  const since = away && store.away_since ? ` since ${clock(store.away_since, true)}` : "";
  const unsent = away && store.unsent ? ` ${store.unsent} changes wait to be written.` : "";
  notice("store", "warn", away ? `The shared store is away${since}. This replica goes on with its last view: overrides in force stay, what other replicas do is not known here.${unsent}` : "");
  notice("scope", "warn", model.readOnly && model.status ? "This key may look and change nothing: timelines, overrides and drills want the scope operator." : "", wants);
  const waiting = model.stream === "waiting" && model.status && !stale && !problem;
  notice("stream", "warn", waiting ? "Live events are interrupted; figures are asked for every 2 seconds meanwhile." : "");
}

// The key

function askForKey(error) {
  if (keyForm) return;
  keyForm = openForm({
    title: "Key for this server",
    name: "key",
    action: "Use it",
    fields: [
      field("Key", input("key", { type: "password", required: true, spellcheck: "false" }), "With the scope operator, or metrics to look only. It stays in this tab until it is closed."),
    ],
    submit: async ({ key: given }) => {
      const before = key.get();
      key.set(given.trim());
      try {
        await get("v1/status?calls=false");
      } catch (problem) {
        key.set(before);
        throw problem;
      }
      begin();
      return true;
    },
  });
  // The first time there is nothing wrong yet.
  if (error && key.get()) notice("problem", "bad", error.message);
  keyForm.done.then(() => {
    keyForm = null;
    connection();
  });
}

function start() {
  setUpTiers();
  setUpCalls();
  setUpOrders(() => Promise.all([poll("status"), poll("drills")]));
  setUpBudgets();
  setUpGaps();
  document.getElementById("key-button").addEventListener("click", () => askForKey());
  // Ages and lengths go on by themselves.
  setInterval(() => {
    connection();
    if (model.status) redraw("tiers", "calls", "orders");
  }, 1000);
  window.controlRoom = { model, frames, now, duration };
  begin();
}

start();
