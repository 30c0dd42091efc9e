// What is drawn of a result in cards and details alike: decision, marks, bars.

import { make } from "./dom.js";
import { fault, reason } from "./explain.js";
import { icon, STATES, stateOf } from "./states.js";
import { percent } from "./words.js";

/** Returns the outcome in colour, icon and words, and what else has to be known at a glance. */
export function badges(result) {
  const state = stateOf(result);
  const { answer } = result;
  const some = [badge(state, STATES[state].label)];
  if (state === "nsfw" && answer.needs_review) some.push(badge("review", STATES.review.label));
  if (answer?.degraded) some.push(make("span", { className: "badge none" }, "Judged by the fallback"));
  if (answer?.matches) some.push(make("span", { className: "badge none" }, "Known content"));
  return make("p", { className: "badges" }, ...some);
}

const badge = (state, words) => make("span", { className: `badge ${state}` }, icon(state), words);

/** Returns in short why a person should look at it; nothing if review is not needed. */
export function reasons({ review_reasons: codes = [], final_decision: decision, needs_review: looked }) {
  const words = codes.map((code) => reason(code)[0]).join("; ");
  const said = looked && decision === "Safe" ? `${words}; else Safe` : words;
  return said ? [make("p", { className: "reasons" }, said)] : [];
}

/** Returns why a person should look at it with what to do, or what went wrong with it. */
export function advice({ answer, error }) {
  const rows = answer ? (answer.review_reasons ?? []).map(reason) : [fault(error)];
  const each = rows.map(([what, todo]) => make("li", {}, make("strong", {}, `${what}. `.replace("..", ".")), todo));
  return rows.length ? [make("ul", { className: `advice ${answer ? "review" : "error"}` }, ...each)] : [];
}

/** Returns a bar of the unsafe score, with a mark where NSFW begins. */
export function scoreBar({ unsafe_score: score, threshold }) {
  const said = `Unsafe score ${percent(score)}, NSFW from ${percent(threshold)}`;
  const bar = make("div", { className: "score", role: "meter", ariaLabel: said, title: said },
    filled("fill", score), make("i", { className: "mark" }));
  bar.classList.toggle("over", score >= threshold);
  bar.setAttribute("aria-valuenow", score);
  bar.setAttribute("aria-valuemin", 0);
  bar.setAttribute("aria-valuemax", 1);
  bar.style.setProperty("--mark", threshold);
  return make("div", { className: "score-row" }, bar, make("span", { className: "share-number", ariaHidden: "true" }, percent(score)));
}

/** Returns rows of names, bars and shares. `unsafe` names those that are forbidden. */
export function shareRows(shares, { labels = {}, unsafe = new Set(), tell = percent, most = 1 } = {}) {
  const rows = Object.entries(shares).map(([name, share]) => {
    const row = make("li", {}, make("span", { className: "share-name" }, labels[name] ?? name),
      make("span", { className: "share-bar", ariaHidden: "true" }, filled("fill", share / (most || 1))),
      make("span", { className: "share-number" }, tell(share)));
    if (unsafe.has(name)) row.className = "unsafe";
    return row;
  });
  return make("ul", { className: "shares" }, ...rows);
}

function filled(className, share) {
  const part = make("i", { className });
  part.style.setProperty("--share", Math.max(0, Math.min(1, share)));
  return part;
}
