// Sends JSON to the server, and goes to the page that it names.

export const read = id => JSON.parse(document.getElementById(id).textContent);

export function complain(text) {
  const problem = document.getElementById("problem");
  problem.textContent = text;
  problem.hidden = !text;
}

export async function send(address, content) {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(address, { method: "POST", headers, body: JSON.stringify(content) });
  const said = await answer.json();
  if (said.next) location.replace(said.next);
  return said;
}
