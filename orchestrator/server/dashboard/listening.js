// A call's recording, to be listened to beside its timeline. The sound is fetched with the key, and played from memory.

import { getSound } from "./api.js";
import { el, setAttribute, setText } from "./dom.js";

export class Listening {
  // `moved` is called when another moment is played.
  constructor(id, moved) {
    this.id = id;
    this.moved = moved;
    this.button = el("button", { type: "button", onclick: () => this.load() }, "Listen (noted in the audit trail)");
    this.told = el("span", { class: "quiet", role: "status" });
    this.player = el("audio", { controls: true, hidden: true, ontimeupdate: moved, onseeked: moved });
    this.node = el("div", { class: "listening", hidden: true }, this.button, this.player, this.told);
  }

  // Shows what there is to listen to, by the call's rows, and where it is, by `draw(time)`.
  follow(rows, live, draw) {
    const said = rows.filter((row) => row.type === "recording");
    const is = (state) => said.some((row) => row.state === state);
    // That it is whole may be known only after the call's last row.
    const kept = is("kept") || (is("recording") && !live);
    setAttribute(this.node, "hidden", !kept || is("failed") || is("deleted"));
    this.began = said.find((row) => row.state === "recording")?.time;
    if (this.began !== undefined && this.address) draw(this.began + this.player.currentTime);
  }

  async load() {
    this.button.disabled = true;
    setText(this.told, "Fetching…");
    try {
      this.address = URL.createObjectURL(await getSound(`v1/calls/${encodeURIComponent(this.id)}/recording`));
      this.player.src = this.address;
      setAttribute(this.player, "hidden", false);
      setAttribute(this.button, "hidden", true);
      setText(this.told, "Left: the caller. Right: what the caller was told.");
      this.player.focus();
      this.moved();
    } catch (error) {
      setText(this.told, error.message);
      this.button.disabled = false;
    }
  }

  end() {
    this.player.pause();
    if (this.address) URL.revokeObjectURL(this.address);
  }
}
