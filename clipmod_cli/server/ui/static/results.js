// What was judged so far: counted, filtered, sorted. Knows nothing of the page.

import { mayPass } from "./explain.js";
import { STATES, stateOf } from "./states.js";

export const FILTERS = ["all", ...Object.keys(STATES)];

const ORDERS = {
  order: null,
  newest: (a, b) => b.id - a.id,
  score: (a, b) => score(b) - score(a) || a.id - b.id,
};

const score = (result) => result.answer?.unsafe_score ?? 2; // errors first: they have no score

export class Results {
  constructor() {
    this.filter = "all";
    this.order = "order";
    this.clear();
  }

  clear() {
    this.all = [];
    this.counts = Object.fromEntries(FILTERS.map((name) => [name, 0]));
    this.next = 0;
  }

  /** Keeps a result: its task, and an answer or an error as {message, code, status}. */
  add(task, { answer = null, error = null }) {
    const { name, file = null, url = null, policy = "" } = task;
    const result = { id: this.next++, name, file, url, policy, answer, error, revealed: false };
    this.all.push(result);
    this.count(result, 1);
    return result;
  }

  /** Takes out the errors that may pass when they are sent again, and returns their tasks. */
  takeBack() {
    const back = this.all.filter(isOpen);
    this.all = this.all.filter((result) => !isOpen(result));
    for (const result of back) this.count(result, -1);
    return back.map(({ name, file, url, policy }) => (file ? { name, file, policy } : { name, url, policy }));
  }

  get open() {
    return this.all.filter(isOpen).length;
  }

  /** Replaces a short answer with one that tells more. */
  replace(result, answer) {
    this.count(result, -1);
    result.answer = answer;
    this.count(result, 1);
  }

  count(result, by) {
    this.counts.all += by;
    this.counts[stateOf(result)] += by;
  }

  /** Returns those that the filter lets through, in the order that was asked for. */
  shown() {
    const some = this.all.filter((result) => this.filter === "all" || stateOf(result) === this.filter);
    return ORDERS[this.order] ? some.sort(ORDERS[this.order]) : some;
  }

  /** Returns everything as JSON Lines: the service's own answers, and `error` where there is none. */
  lines() {
    return this.all.map(({ name, answer, error }) => {
      const said = answer ?? { error: error.message, ...(error.code ? { code: error.code } : {}) };
      return `${JSON.stringify({ source: name, ...said })}\n`;
    });
  }
}

const isOpen = ({ error, file, url }) => Boolean(error && (file || url) && mayPass(error));
