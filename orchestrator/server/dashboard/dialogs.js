// Dialogs: one at a time or one above another. Escape closes the uppermost, and focus goes back to where it was.

import { el, setAttribute, setText } from "./dom.js";

let number = 0;

// Opens a dialog with a title; `body` are elements, `actions` buttons. Returns it, with `finish(value)` and `done`, a
// promise of that value, or of undefined where it was closed.
export function openDialog({ title, body = [], actions = [], wide = false, name = "" }) {
  const id = `dialog-${(number += 1)}`;
  const close = el("button", { type: "button", class: "close", "aria-label": "Close" }, "✕");
  const node = el(
    "dialog",
    { "aria-labelledby": id, class: wide ? "wide" : null, "data-name": name },
    el("div", { class: "heading" }, el("h2", { id }, title), close),
    el("div", { class: "inside" }, ...body),
    actions.length ? el("div", { class: "actions" }, ...actions) : null,
  );
  let settle;
  node.done = new Promise((done) => (settle = done));
  node.finish = (value) => {
    node.result = value;
    node.close();
  };
  close.addEventListener("click", () => node.close());
  node.addEventListener("close", () => {
    node.remove();
    settle(node.result);
  });
  document.getElementById("dialogs").append(node);
  node.showModal();
  return node;
}

// Asks before something is done: `lines` say what will happen. True where it is to be done.
export async function confirm({ title, lines, action }) {
  const yes = el("button", { type: "button", class: "main" }, action);
  const no = el("button", { type: "button", autofocus: true }, "Cancel");
  const list = el("ul", { class: "consequences" }, ...lines.filter(Boolean).map((line) => el("li", {}, line)));
  const node = openDialog({ title, body: [list], actions: [no, yes], name: "confirm" });
  yes.addEventListener("click", () => node.finish(true));
  no.addEventListener("click", () => node.finish(false));
  return (await node.done) === true;
}

// A labelled field; `hint` stands below it.
export function field(label, control, hint = "") {
  return el("label", { class: "field" }, el("span", {}, label), control, hint && el("span", { class: "hint quiet" }, hint));
}

export function input(name, attributes = {}) {
  return el("input", { name, autocomplete: "off", ...attributes });
}

export function select(name, options, chosen = "") {
  const made = options.map(([value, text]) => el("option", { value, selected: value === chosen }, text));
  return el("select", { name }, ...made);
}

// A form in a dialog. `submit(values)` may throw an ApiError, which is shown; it closes the form by returning true.
export function openForm({ title, fields, action, submit, name = "form" }) {
  const error = el("p", { class: "notice bad", role: "alert", hidden: true });
  const send = el("button", { type: "submit", class: "main" }, action);
  const cancel = el("button", { type: "button" }, "Cancel");
  const form = el("form", { novalidate: false }, ...fields, error, el("div", { class: "actions" }, cancel, send));
  const node = openDialog({ title, body: [form], name });
  cancel.addEventListener("click", () => node.close());
  form.querySelector("input, select")?.focus();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    setAttribute(error, "hidden", true);
    send.disabled = true;
    try {
      if (await submit(Object.fromEntries(new FormData(form)))) node.finish(true);
    } catch (problem) {
      setText(error, problem.message);
      setAttribute(error, "hidden", false);
    } finally {
      send.disabled = false;
    }
  });
  return node;
}

// A message at the top of the page: `level` is good, warn or bad. One with the same `id` takes the place of the other.
export function notice(id, level, text, action = null) {
  const place = document.getElementById("notices");
  let known = [...place.children].find((node) => node.dataset.id === id);
  if (known && (!text || Boolean(known.querySelector("button")) !== Boolean(action))) {
    known.remove();
    known = null;
  }
  if (!text) return;
  const node = known ?? el("div", { class: "notice", "data-id": id }, el("span", {}));
  if (!known) {
    if (action) node.append(el("button", { type: "button", class: "small", onclick: action.run }, action.name));
    place.append(node);
  }
  node.classList.remove("good", "warn", "bad");
  node.classList.add(level);
  setText(node.firstChild, text);
}

// One that says what has just been done; it goes by itself.
export function told(text) {
  notice("told", "good", text, { name: "Dismiss", run: () => notice("told", "good", "") });
  setTimeout(() => notice("told", "good", ""), 20_000);
}
