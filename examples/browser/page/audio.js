// Sound out and in: 16-bit samples, 24,000 a second, as base64.

const RATE = 24000;

export function floatsOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return Float32Array.from(new Int16Array(bytes.buffer), (sample) => sample / 32768);
}

export function base64Of(floats) {
  const samples = Int16Array.from(floats, (x) => Math.max(-1, Math.min(1, x)) * 32767);
  return btoa(Array.from(new Uint8Array(samples.buffer), (byte) => String.fromCharCode(byte)).join(""));
}

/** Plays what comes, piece behind piece. */
export class Player {
  constructor(context) {
    this.context = context;
    this.sources = new Set();
    this.begun = 0;
    this.until = 0;
  }

  play(base64) {
    const floats = floatsOf(base64);
    const buffer = this.context.createBuffer(1, floats.length, RATE);
    buffer.copyToChannel(floats, 0);
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.context.destination);
    if (this.until < this.context.currentTime) this.begun = this.until = this.context.currentTime;
    source.start(this.until);
    this.until += buffer.duration;
    this.sources.add(source);
    source.onended = () => this.sources.delete(source);
  }

  /** Falls silent; returns how many milliseconds of the answer were heard, nothing where none was playing. */
  stop() {
    const now = this.context.currentTime;
    if (now >= this.until) return undefined;
    for (const source of this.sources) source.stop();
    this.sources.clear();
    this.until = now;
    return Math.round((now - this.begun) * 1000);
  }
}

const WORKLET = `registerProcessor("tap", class extends AudioWorkletProcessor {
  process([[samples]]) { if (samples) this.port.postMessage(samples.slice()); return true; }
});`;

/** Gives the microphone to `hear`, 40 ms at a time; returns what switches it off. */
export async function openMicrophone(context, hear) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true } });
  await context.audioWorklet.addModule(URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" })));
  const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0 });
  let waiting = [];
  tap.port.onmessage = ({ data }) => {
    waiting.push(...data);
    if (waiting.length >= RATE * 0.04) {
      hear(base64Of(waiting));
      waiting = [];
    }
  };
  context.createMediaStreamSource(stream).connect(tap);
  return () => stream.getTracks().forEach((track) => track.stop());
}

export const openAudio = () => new AudioContext({ sampleRate: RATE });
