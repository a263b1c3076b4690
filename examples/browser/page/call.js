// A call from a browser. No key is in here: the page asks its own backend for a credential, which opens this one call.

export async function openCall(on, { backend = "", Socket = WebSocket } = {}) {
  const answer = await fetch(`${backend}/call`, { method: "POST" });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);

  // Browsers cannot set headers on a WebSocket, so the credential goes as a subprotocol, as with OpenAI itself.
  const socket = new Socket(told.url, ["realtime", `openai-insecure-api-key.${told.value}`]);
  const send = (event) => socket.send(JSON.stringify(event));
  let speaking = null; // the item whose audio is playing

  const handlers = {
    "session.created": (event) => on.session?.(event.session),
    "session.updated": (event) => on.session?.(event.session),
    "response.output_audio.delta": (event) => {
      speaking = event.item_id;
      on.audio?.(event.delta);
    },
    "response.output_audio_transcript.delta": (event) => on.words?.(event.delta),
    "response.done": (event) => on.done?.(event.response),
    "input_audio_buffer.speech_started": () => {
      const heard_ms = on.interrupted?.();
      if (speaking && heard_ms !== undefined) {
        send({ type: "conversation.item.truncate", item_id: speaking, content_index: 0, audio_end_ms: heard_ms });
      }
      speaking = null;
    },
    error: (event) => on.problem?.(event.error),
  };
  socket.addEventListener("message", ({ data }) => {
    const event = JSON.parse(data);
    handlers[event.type]?.(event);
  });
  socket.addEventListener("close", ({ code, reason }) => on.ended?.(code, reason));
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve);
    // A browser does not say why: the credential may have expired, or the page may not be the one it is for.
    socket.addEventListener("error", () => reject(new Error("the call was not let in")));
  });

  return {
    /** A turn in writing. */
    write(text) {
      const content = [{ type: "input_text", text }];
      send({ type: "conversation.item.create", item: { type: "message", role: "user", content } });
      send({ type: "response.create" });
    },
    /** Sound of the microphone: base64 of 16-bit samples, 24,000 a second. */
    hear(audio) {
      if (socket.readyState === 1) send({ type: "input_audio_buffer.append", audio });
    },
    hangUp() {
      socket.close(1000);
    },
  };
}
