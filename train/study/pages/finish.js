import { complain, read, send } from "./send.js";

const page = read("pair");
document.getElementById("undo").addEventListener("click", async () => {
  try {
    await send("/undo", { trial: page.undo });
  } catch {
    complain(page.texts.not_saved);
  }
});
