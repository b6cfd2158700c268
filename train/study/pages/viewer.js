// Shows the pictures of a pair without resampling: a canvas has exactly the pixels of the screen
// that it covers, and each pixel of a picture becomes one of them, or four at 200 %.

const canvases = ["left", "clean", "right"].map(id => document.getElementById(id)).filter(Boolean);
const panes = document.getElementById("panes");
const pictures = {};
const state = { zoom: 1, shown: "left", place: false, x: 0, y: 0 };
const used = { zoomed: false, flickered: false };
export const usage = used;

const load = async address => {
  const picture = new Image();
  picture.src = address;
  await picture.decode();
  return picture;
};

// All pictures appear in the same frame, when the last of them has arrived.
export async function show(addresses) {
  const names = Object.keys(addresses).filter(name => addresses[name]);
  const loaded = await Promise.all(names.map(name => load(addresses[name])));
  names.forEach((name, i) => { pictures[name] = loaded[i]; });
  state.x = loaded[0].naturalWidth / 2;
  state.y = loaded[0].naturalHeight / 2;
  await new Promise(requestAnimationFrame);
  draw();
}

export function clear() {
  for (const name of Object.keys(pictures)) delete pictures[name];
  Object.assign(state, { zoom: 1, shown: "left", place: false });
  Object.assign(used, { zoomed: false, flickered: false });
  draw();
}

const clamped = (centre, length, room) => {
  const half = room / 2 / state.zoom;
  return length <= 2 * half ? length / 2 : Math.min(Math.max(centre, half), length - half);
};

function draw() {
  const name = document.getElementById("left-name");
  name.textContent = document.querySelector(`[data-choice=${state.place ? state.shown : "left"}]`).textContent;
  panes.dataset.mode = state.place ? "place" : "sides";
  document.getElementById("alternate").setAttribute("aria-pressed", state.place);
  document.getElementById("zoom").setAttribute("aria-pressed", state.zoom === 2);
  document.getElementById("scale").textContent = `${100 * state.zoom} %`;
  for (const canvas of canvases) {
    const picture = pictures[canvas.id === "left" && state.place ? state.shown : canvas.id];
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!picture) continue;
    const [width, height] = [picture.naturalWidth, picture.naturalHeight];
    const x = clamped(state.x, width, canvas.width), y = clamped(state.y, height, canvas.height);
    context.imageSmoothingEnabled = false;
    context.drawImage(
      picture,
      Math.round(canvas.width / 2 - x * state.zoom), Math.round(canvas.height / 2 - y * state.zoom),
      width * state.zoom, height * state.zoom,
    );
  }
}

const sizes = new ResizeObserver(entries => {
  for (const { target, devicePixelContentBoxSize: exact } of entries) {
    const ratio = devicePixelRatio;
    target.width = exact ? exact[0].inlineSize : Math.round(target.clientWidth * ratio);
    target.height = exact ? exact[0].blockSize : Math.round(target.clientHeight * ratio);
  }
  draw();
});
for (const canvas of canvases) {
  try {
    sizes.observe(canvas, { box: "device-pixel-content-box" });
  } catch {
    sizes.observe(canvas);  // Safari does not say how many pixels of the screen a box has.
  }
}

function move(dx, dy) {
  if (!pictures.left) return;
  const [width, height] = [pictures.left.naturalWidth, pictures.left.naturalHeight];
  const largest = pick => Math.max(...canvases.map(pick));
  state.x = clamped(state.x + dx / state.zoom, width, largest(canvas => canvas.width));
  state.y = clamped(state.y + dy / state.zoom, height, largest(canvas => canvas.height));
  draw();
}

export const actions = {
  zoom() { state.zoom = 3 - state.zoom; used.zoomed = true; move(0, 0); },
  alternate() {
    state.shown = state.place && state.shown === "left" ? "right" : "left";
    state.place = used.flickered = true;
    draw();
  },
  sides() { state.place = false; draw(); },
};
for (const name of Object.keys(actions)) document.getElementById(name).addEventListener("click", actions[name]);

for (const canvas of canvases) {
  canvas.addEventListener("pointerdown", event => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", event => {
    if (event.buttons & 1) move(-event.movementX * devicePixelRatio, -event.movementY * devicePixelRatio);
  });
}

// vote, undo and pause are functions of the page.
export function listen(page) {
  for (const button of document.querySelectorAll("[data-choice]"))
    button.addEventListener("click", () => page.vote(button.dataset.choice));
  document.getElementById("undo").addEventListener("click", page.undo);
  document.getElementById("pause").addEventListener("click", page.pause);
  const step = 40;
  const keys = {
    ArrowLeft: () => page.vote("left"), ArrowRight: () => page.vote("right"), ArrowDown: () => page.vote("none"),
    z: actions.zoom, f: actions.alternate, s: actions.sides, u: page.undo, p: page.pause,
  };
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.shiftKey && moves[key]) {
      move(...moves[key]);
      event.preventDefault();
    } else if (!event.shiftKey && keys[key]) {
      event.preventDefault();
      if (!event.repeat) keys[key]();  // A key that is held down is one vote, not many.
    }
  });
}
