// What the page of examples/browser does, under Node: `node … page.mjs MODULES BACKEND ORIGIN`. Prints what it saw.

const [modules, backend, origin] = process.argv.slice(2);
const { openCall } = await import(`${modules}/call.mjs`);
const { floatsOf, base64Of, Player } = await import(`${modules}/audio.mjs`);

// A browser sends the page's origin by itself; no page can choose it.
class FromPage extends WebSocket {
  constructor(url, protocols) {
    super(url, { protocols, headers: origin ? { origin } : {} });
  }
}

const seen = { seconds: 0, words: "", loudest: 0, problems: [], tier: null, status: null, ended: null };

// As much of Web Audio as the player uses.
const started = [];
globalThis.AudioBufferSourceNode = class {
  constructor(context, { buffer }) { this.buffer = buffer; }
  connect() {}
  start(at) { started.push(at); }
  stop() {}
};
const context = { currentTime: 0, destination: null, createBuffer: (_, length) => ({ duration: length / 24000, copyToChannel() {} }) };
const player = new Player(context);

function promised() {
  const it = {};
  it.promise = new Promise((resolve) => (it.resolve = resolve));
  return it;
}

try {
  const [ended, done] = [promised(), promised()];
  const call = await openCall(
    {
      session: ({ orchestrator, instructions, tools }) => Object.assign(seen, { tier: orchestrator.tier, instructions, tools }),
      audio: (base64) => {
        const floats = floatsOf(base64);
        seen.seconds += floats.length / 24000;
        seen.loudest = floats.reduce((most, x) => Math.max(most, Math.abs(x)), seen.loudest);
        seen.same = base64Of(floats).length === base64.length;
        player.play(base64);
      },
      words: (text) => (seen.words += text),
      done: ({ status }) => { seen.status = status; done.resolve(); },
      problem: ({ code }) => seen.problems.push(code),
      ended: (code) => { seen.ended = code; ended.resolve(); },
    },
    { backend, Socket: FromPage },
  );
  call.write("Hello?");
  await done.promise;
  seen.queued = player.until;
  context.currentTime = 0.25;
  seen.heard = player.stop();
  call.hangUp();
  await ended.promise;
} catch (error) {
  seen.failed = error.message;
}
console.log(JSON.stringify(seen));
