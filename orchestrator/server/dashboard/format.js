// How times, money and the words of the API are written for people.

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

export const STATES = {
  closed: { word: "Working", mark: "●", level: "good" },
  canary: { word: "On trial", mark: "▲", level: "warn" },
  half_open: { word: "Being probed", mark: "◐", level: "bad" },
  open: { word: "Out of use", mark: "✕", level: "bad" },
  missing: { word: "Not there", mark: "–", level: "off" },
};

export const LIMITS = { force: "Forced to", ceiling: "Nothing better than", floor: "Nothing worse than" };
export const TIERS = { A: "OpenAI Realtime", B: "Local pipeline", C: "Fixed prompts" };

// Unix seconds as the hour of the day here, with the day where it is another one.
export function clock(at, withSeconds = false) {
  const date = new Date(at * 1000);
  const time = (withSeconds ? CLOCK : TIME).format(date);
  return date.toDateString() === new Date().toDateString() ? time : `${DAY.format(date)} ${time}`;
}

export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} d`;
}

// A call's length, as a telephone shows it.
export function length(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const rest = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}

export function money(usd) {
  if (usd === null || usd === undefined) return "–";
  const digits = usd >= 100 ? 0 : usd >= 0.1 || usd === 0 ? 2 : 4;
  return `$${usd.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
}

export function ms(value) {
  if (value === null || value === undefined) return "–";
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(value < 10000 ? 2 : 1)} s`;
}

// `next_audio_timeout` as words.
export function words(id) {
  return String(id ?? "").replaceAll("_", " ");
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

// Who gave an order: the key's name, and what they typed where it says more.
export function by(order) {
  const name = order.name || order.who || "somebody";
  return order.typed && order.typed !== name ? `${name} (${order.typed})` : name;
}

export function scopeWords(scope) {
  if (scope === "all") return "all calls";
  const [kind, ...rest] = String(scope).split(":");
  return `${{ call: "the call", user: "calls of user", purpose: "calls for", bucket: "calls of bucket" }[kind] ?? kind} ${rest.join(":")}`;
}
