// What is drawn of a result in cards and details alike: decision, marks, bars.

import { make } from "./dom.js";
import { decision, percent, reason } from "./words.js";

const KINDS = { NSFW: "nsfw", Safe: "safe", Error: "error" };

/** Returns the decision in colour and words, and that a person should look where one should. */
export function badges(result) {
  const word = decision(result);
  const some = [make("span", { className: `badge ${KINDS[word] ?? "none"}` }, word)];
  if (result.answer?.needs_review) some.push(make("span", { className: "badge review" }, "Needs review"));
  if (result.answer?.degraded) some.push(make("span", { className: "badge review" }, "Stand-in judged"));
  if (result.answer?.matches) some.push(make("span", { className: "badge none" }, "Known content"));
  return make("p", { className: "badges" }, ...some);
}

/** Returns a paragraph of why a person should look at it; nothing where nobody need. */
export function reasons({ review_reasons: codes = [] }) {
  return codes.length ? [make("p", { className: "reasons" }, codes.map(reason).join("; "))] : [];
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
