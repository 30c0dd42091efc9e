// What is wrong with the service, above everything else; asked again while the page is looked at.

import { ask, UNREACHABLE } from "./api.js";
import { byId } from "./dom.js";

const EVERY_MS = 15_000;
const SOON_MS = 500; // many results may ask at once

/** Keeps the banner true; `back()` hears that the service can be reached again. Returns how to look soon. */
export function watch({ back }) {
  let reached = true;
  const look = async () => {
    const said = await trouble();
    const box = byId("banner");
    if (box.textContent !== said) box.textContent = said; // said aloud again otherwise
    box.hidden = !said || (said === UNREACHABLE && !byId("notice").hidden); // which says it already
    if (said !== UNREACHABLE && !reached) back();
    reached = said !== UNREACHABLE;
  };
  setInterval(() => document.visibilityState === "visible" && look(), EVERY_MS);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && look());
  look();
  let soon = 0;
  return () => (soon ||= setTimeout(() => ((soon = 0), look()), SOON_MS));
}

/** Returns what a person should know of the service, in words; nothing where all is well. */
async function trouble() {
  try {
    const ready = await (await fetch("/readyz", { cache: "no-store" })).json();
    if (ready.draining) return "The service is ending: it takes nothing new. What is not judged can be continued later.";
    if (ready.status !== "ready" && !ready.queue_full) return `The service is not ready: ${ready.reason}.`;
    return inWords(await ask("/health"));
  } catch (error) {
    return error.status ? "" : UNREACHABLE; // without a key, or no answer in time: the page's other parts say so
  }
}

function inWords({ status, models, database }) {
  if (status === "healthy") return "";
  const said = [];
  if (models.judging === "openclip_fallback") {
    said.push("The models that should judge have failed, and a fallback judges in their place: look at each result yourself.");
  }
  if (!database.connected) said.push("The statistics are not kept now: their store does not answer.");
  return said.join(" ") || "The service is degraded: fewer models judge than it was set up with.";
}
