// A study without a server: votes stay in this browser until they are saved as a file. The viewer
// stands above this text.

const study = JSON.parse(document.getElementById("study").textContent);
const place = `study ${study.id} ${study.place}`;
let kept = { conditions: null, votes: [], undoable: false };
let began = 0, ready = false;

try {
  kept = JSON.parse(localStorage.getItem(place)) ?? kept;
} catch { /* this browser keeps nothing: the observer must finish in one go */ }

function keep() {
  try {
    localStorage.setItem(place, JSON.stringify(kept));
  } catch { /* as above */ }
}

function only(id) {
  for (const name of ["start", "voting", "end"]) document.getElementById(name).hidden = name !== id;
  document.body.className = id === "voting" ? "pair" : "text";
}

function enable(on) {
  ready = on;
  for (const button of document.querySelectorAll("[data-choice]")) button.disabled = !on;
}

async function next() {
  const number = kept.votes.length, trial = study.trials[number];
  if (!trial) return finish();
  only("voting");
  enable(false);
  clear();
  const { practice } = study;
  const text = number < practice ? study.texts.practice : study.texts.progress;
  const shown = number < practice ? [number + 1, practice] : [number - practice + 1, study.trials.length - practice];
  document.getElementById("progress").textContent = text.replace("{number}", shown[0]).replace("{count}", shown[1]);
  document.getElementById("undo").disabled = !kept.undoable;
  const pictures = {};
  for (const [name, index] of Object.entries(trial.pictures)) pictures[name] = study.pictures[index];
  await show(pictures);
  began = performance.now();
  enable(true);
}

async function finish() {
  only("end");
  const done = kept.votes.length === study.trials.length;
  document.getElementById("end-title").textContent = done ? study.texts.finished : study.texts.paused;
  document.getElementById("end-why").textContent = done ? study.texts.send_file : study.texts.save_why;
  document.getElementById("back").textContent = done ? study.texts.undo : study.texts.continue;
  document.getElementById("back").hidden = done && !kept.undoable;
  const content = JSON.stringify({ study: study.id, place: study.place, conditions: kept.conditions, votes: kept.votes });
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(content));
  const sha256 = [...new Uint8Array(digest)].map(byte => byte.toString(16).padStart(2, "0")).join("");
  const link = document.getElementById("save");
  link.href = URL.createObjectURL(new Blob([JSON.stringify({ content, sha256 })], { type: "application/json" }));
  link.focus();
}

function undo() {
  if (!kept.undoable) return;
  kept.votes.pop();
  kept.undoable = false;
  keep();
  next();
}

listen({
  vote(choice) {
    if (!ready) return;
    const trial = study.trials[kept.votes.length].trial;
    kept.votes.push({ trial, choice, ...usage, milliseconds: Math.round(performance.now() - began) });
    kept.undoable = true;
    keep();
    next();
  },
  undo() { if (ready) undo(); },
  pause() { finish(); },
});
document.getElementById("back").addEventListener("click", () => {
  if (kept.votes.length === study.trials.length) undo();
  else next();
});
document.getElementById("begin").addEventListener("submit", event => {
  event.preventDefault();
  const gamut = ["rec2020", "p3"].find(name => matchMedia(`(color-gamut: ${name})`).matches) ?? "srgb";
  kept.conditions = {
    distance: Number(document.getElementById("distance").value),
    width: innerWidth, height: innerHeight, ratio: devicePixelRatio, gamut,
  };
  keep();
  next();
});
if (kept.conditions) next();
