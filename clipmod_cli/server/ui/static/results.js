// What was judged so far: counted, filtered, sorted. Knows nothing of the page.

import { decision } from "./words.js";

export const FILTERS = {
  all: { label: "All", has: () => true },
  nsfw: { label: "NSFW", has: (result) => decision(result) === "NSFW" },
  review: { label: "Needs review", has: (result) => Boolean(result.answer?.needs_review) },
  safe: { label: "Safe", has: (result) => decision(result) === "Safe" },
  errors: { label: "Errors", has: (result) => Boolean(result.error) },
};

const ORDERS = {
  order: null,
  newest: (a, b) => b.id - a.id,
  score: (a, b) => score(b) - score(a) || a.id - b.id,
};

const score = (result) => result.answer?.unsafe_score ?? 2; // errors first: nobody knows what they are

export class Results {
  constructor() {
    this.filter = "all";
    this.order = "order";
    this.clear();
  }

  clear() {
    this.all = [];
    this.counts = Object.fromEntries(Object.keys(FILTERS).map((name) => [name, 0]));
  }

  /** Keeps a result: its task, and an answer or an error in words. */
  add(task, { answer = null, error = "" }) {
    const result = { id: this.all.length, name: task.name, file: task.file ?? null, answer, error, revealed: false };
    this.all.push(result);
    for (const [name, { has }] of Object.entries(FILTERS)) this.counts[name] += has(result);
    return result;
  }

  /** Returns those that the filter lets through, in the order that was asked for. */
  shown() {
    const some = this.all.filter(FILTERS[this.filter].has);
    return ORDERS[this.order] ? some.sort(ORDERS[this.order]) : some;
  }

  /** Returns everything as JSON Lines: the service's own answers, and `error` where there is none. */
  lines() {
    return this.all.map(({ name, answer, error }) =>
      `${JSON.stringify(answer ? { source: name, ...answer } : { source: name, error })}\n`);
  }
}
