// The server's API: the key, requests, and the stream of events.
//
// The key stays in this tab's session storage and travels in a header alone, never in an address.

const KEY = "orchestrator.key";
const PATIENCE_MS = 10_000;
const SOUND_MS = 120_000;
const SILENCE_MS = 40_000; // the server says something at least every 15 s

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

// What the server answered instead of what was wanted. `status` is 0 where nothing came at all.
export class ApiError extends Error {
  constructor(status, code, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

function headers(more = {}) {
  const bearer = key.get();
  return bearer ? { Authorization: `Bearer ${bearer}`, ...more } : more;
}

async function ask(path, options, signal) {
  try {
    return await fetch(path, { ...options, signal, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The server does not answer.");
  }
}

async function refused(response) {
  let told = {};
  try {
    told = (await response.json()).error ?? {};
  } catch {
    // A proxy answered, perhaps; its status has to do.
  }
  const wait = Number(response.headers.get("Retry-After")) || 0;
  return new ApiError(response.status, told.code ?? "", told.message ?? `The server answered ${response.status}.`, wait);
}

export async function request(method, path, body) {
  const options = { method, headers: headers(body ? { "Content-Type": "application/json" } : {}) };
  if (body) options.body = JSON.stringify(body);
  const response = await ask(path, options, AbortSignal.timeout(PATIENCE_MS));
  if (!response.ok) throw await refused(response);
  return response.status === 204 ? null : whole(() => response.json());
}

export const get = (path) => request("GET", path);

// A file as a Blob: a player cannot send a key, so it is fetched whole.
export async function getSound(path) {
  const response = await ask(path, { headers: headers() }, AbortSignal.timeout(SOUND_MS));
  if (!response.ok) throw await refused(response);
  return whole(() => response.blob());
}

async function whole(read) {
  try {
    return await read();
  } catch {
    throw new ApiError(0, "unreachable", "The server's answer broke off.");
  }
}

// Follows /v1/events until `stop`. `on.row(row)`, `on.state("live" | "waiting" | "denied", error)`.
// Comes back by itself, and goes on where it was as far as the server remembers.
export function follow(query, on) {
  const stopping = new AbortController();
  run(query, on, stopping.signal);
  return () => stopping.abort();
}

async function run(query, on, stopped) {
  let position = "";
  let pause = 500;
  while (!stopped.aborted) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    stopped.addEventListener("abort", stop);
    let quiet = setTimeout(stop, SILENCE_MS);
    try {
      const more = position ? { "Last-Event-ID": position } : {};
      const response = await ask(`v1/events?${query}`, { headers: headers(more) }, attempt.signal);
      if (!response.ok) throw await refused(response);
      on.state("live");
      pause = 500;
      for await (const { id, data } of blocks(response.body)) {
        clearTimeout(quiet);
        quiet = setTimeout(stop, SILENCE_MS);
        if (id) position = id;
        if (data) on.row(JSON.parse(data));
      }
    } catch (error) {
      if (stopped.aborted) return;
      if (error.status === 401 || error.status === 403) {
        on.state("denied", error);
        return;
      }
      pause = Math.max(pause, (error.retryAfter ?? 0) * 1000);
      on.state("waiting", error);
    } finally {
      clearTimeout(quiet);
      stopped.removeEventListener("abort", stop);
    }
    // A stream that came to its regular end is opened again soon.
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(pause * 2, 10_000);
  }
}

async function* blocks(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    const found = (rest + value).split("\n\n");
    rest = found.pop();
    for (const block of found) yield parsed(block);
  }
}

function parsed(block) {
  const fields = { id: "", data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(": ");
    const name = line.slice(0, colon);
    if (name in fields) fields[name] = line.slice(colon + 2);
  }
  return fields;
}
