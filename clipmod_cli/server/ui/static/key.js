// Asks for the key where a session has ended; what is on the page stays.

import { logIn, UNREACHABLE } from "./api.js";
import { byId } from "./dom.js";

let waiting = [];

/** Asks for the key, once however many want it; each `then` is called when there is a session again. */
export function askForKey(then) {
  waiting.push(then);
  if (!byId("key-dialog").open) byId("key-dialog").showModal();
}

export function wireKey() {
  const dialog = byId("key-dialog");
  const fault = byId("key-fault");
  byId("key-later").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    byId("key").value = fault.textContent = "";
    waiting = [];
  });
  byId("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    fault.textContent = "";
    try {
      if (!(await logIn(byId("key").value))) return void (fault.textContent = "This API key is not valid.");
    } catch (error) {
      return void (fault.textContent = error.status ? error.message : UNREACHABLE);
    }
    const next = waiting;
    dialog.close();
    for (const then of next) then();
  });
}
