import { complain, read, send } from "./send.js";

const texts = read("texts");
const gamut = ["rec2020", "p3"].find(name => matchMedia(`(color-gamut: ${name})`).matches) ?? "srgb";

// A double click begins once: a second observer would take a place that nobody fills.
let sending = false;

async function submit(event, address, content) {
  event.preventDefault();
  if (sending) return;
  sending = true;
  complain("");
  try {
    const said = await send(address, content);
    if (said.problem) complain(texts[said.problem]);
  } catch {
    complain(texts.not_saved);
  }
  sending = false;
}

document.getElementById("begin").addEventListener("submit", event => submit(event, "/begin", {
  distance: Number(document.getElementById("distance").value),
  width: innerWidth, height: innerHeight, ratio: devicePixelRatio, gamut,
}));
document.getElementById("resume")?.addEventListener("submit", event => submit(event, "/resume", {
  code: document.getElementById("code").value,
}));
