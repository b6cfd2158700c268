import { complain, read, send } from "./send.js";
import { listen, show, usage } from "./viewer.js";

const pair = read("pair");
const buttons = [...document.querySelectorAll("[data-choice]")];
let began = 0, ready = false;

const enable = on => {
  ready = on;
  for (const button of buttons) button.disabled = !on;
};

async function submit(address, content) {
  enable(false);
  complain("");
  try {
    if ((await send(address, content)).next) return;
  } catch { /* the server has stopped; the observer is told below */ }
  complain(pair.texts.not_saved);
  enable(true);
}

listen({
  vote(choice) {
    if (ready) submit("/vote", { trial: pair.trial, choice, ...usage, milliseconds: performance.now() - began });
  },
  undo() { if (ready && pair.undo) submit("/undo", { trial: pair.undo }); },
  pause() { location.assign("/pause"); },
});
try {
  await show(pair.pictures);
  began = performance.now();
  enable(true);
} catch {
  complain(pair.texts.not_loaded);
}
// A page that the back button shows again may be an earlier pair.
addEventListener("pageshow", event => { if (event.persisted) location.reload(); });
