// The four outcomes of a picture, each in a word, an icon and a colour. One picture has one.

import { draw } from "./dom.js";

export const STATES = {
  nsfw: { label: "NSFW", chip: "NSFW", icon: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13ZM3.5 3.5l9 9" },
  review: { label: "Needs review", chip: "Review", icon: "M8 2 15 14H1ZM8 6.5v3.5M8 12v.1" },
  safe: { label: "Safe", chip: "Safe", icon: "m2.5 8.5 4 4 7-8.5" },
  error: { label: "Error", chip: "Errors", icon: "m3.5 3.5 9 9m0-9-9 9" },
};

/** Returns a result's outcome. NSFW comes before review; without a decision nothing is ever safe. */
export function stateOf({ answer }) {
  if (!answer) return "error";
  if (answer.final_decision === "NSFW") return "nsfw";
  return answer.final_decision === "Safe" && !answer.needs_review ? "safe" : "review";
}

/** Returns the icon of an outcome, for the eye alone. */
export const icon = (state) =>
  draw("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }, draw("path", { d: STATES[state].icon }));
