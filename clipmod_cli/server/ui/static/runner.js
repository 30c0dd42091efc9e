// The line of what is to be judged: one request after the other, small enough for early answers.

import { ApiError, ask, judgeFile, judgeMany, judgeUrls } from "./api.js";

const GROUP_FILES = 100; // browsers read an answer when the body is sent: small groups answer early
const FIRST_FILES = 12; // and the very first at once
const GROUP_BYTES = 32e6;
const TICK_MS = 500; // between looks at the clock while it waits
const LONGEST_WAIT_S = 15; // between tries where the service names no time

export class Runner {
  /** `told` has: result(task, answer), failed(task, error), changed(), waiting(sentence), ended(reason). */
  constructor(limits, told) {
    this.limits = limits;
    this.told = told;
    this.clear();
  }

  get running() {
    return this.stopper !== null;
  }

  clear() {
    this.stopper?.abort();
    Object.assign(this, { stopper: null, pause: null, waiting: [], next: 0, total: 0, done: 0, first: true });
  }

  add(tasks) {
    if (!this.left) Object.assign(this, { waiting: [], next: 0, total: 0, done: 0, first: true });
    for (const task of tasks) this.waiting.push(task);
    this.total += tasks.length;
    this.start();
  }

  get left() {
    return this.total - this.done;
  }

  stop() {
    this.stopper?.abort();
  }

  /** How long it waits yet for a busy service, in whole seconds; 0 where it does not. */
  get waitS() {
    return this.pause ? Math.max(1, Math.ceil((this.pause.until - performance.now()) / 1000)) : 0;
  }

  /** Ends the wait for a busy service. */
  hurry() {
    this.pause?.end();
  }

  async start() {
    if (this.running || !this.left) return;
    const stopper = new AbortController();
    this.stopper = stopper;
    this.told.changed();
    const reason = await this.work(stopper.signal).catch((error) => error);
    if (this.stopper !== stopper) return; // cleared meanwhile
    this.stopper = null;
    this.told.ended(reason);
  }

  async work(signal) {
    while (this.next < this.waiting.length) {
      const group = this.take();
      try {
        await this.send(group, signal);
      } catch (error) {
        this.putBack(group.filter((task) => !task.over));
        throw error;
      }
    }
    return null;
  }

  /** Takes what goes into one request. */
  take() {
    const head = this.waiting[this.next];
    const most = head.url ? this.limits.urls : Math.min(this.first ? FIRST_FILES : GROUP_FILES, this.limits.files);
    const bytes = Math.min(GROUP_BYTES, this.limits.bytes);
    const group = [];
    let sum = 0;
    for (; this.next < this.waiting.length && group.length < most; this.next++) {
      const task = this.waiting[this.next];
      sum += task.file?.size ?? 0;
      if (Boolean(task.url) !== Boolean(head.url) || task.policy !== head.policy || (group.length && sum > bytes)) break;
      group.push(task);
    }
    this.first = false;
    if (this.next > 1000) this.waiting = this.waiting.slice(this.next), (this.next = 0);
    return group;
  }

  putBack(tasks) {
    this.waiting = [...tasks, ...this.waiting.slice(this.next)];
    this.next = 0;
  }

  /** Has all of a group judged. Throws where nothing can be: stopped, no key, no service. */
  async send(group, signal) {
    for (let tries = 1; ; tries++) {
      const open = group.filter((task) => !task.over);
      if (!open.length) return undefined;
      try {
        await this.ask(open, signal);
        if (open.every((task) => task.over)) return undefined;
        throw new TypeError("the answer ended early");
      } catch (error) {
        if (signal.aborted || error.status === 401) throw error;
        if (!isBusy(error)) return this.recover(open.filter((task) => !task.over), error, signal);
        await this.wait(error, tries, signal);
      }
    }
  }

  /** Waits until a busy service may take more. */
  async wait(error, tries, signal) {
    const seconds = error.retryS || Math.min(tries, LONGEST_WAIT_S);
    const sentence = error.status === 429 ? "The service takes no more requests from here for now."
      : `The service is ${/is ending/.test(error.message) ? "ending" : "busy"}.`;
    const ended = new Promise((done, failed) => {
      this.pause = { until: performance.now() + seconds * 1000, sentence, end: done };
      setTimeout(done, seconds * 1000);
      signal.addEventListener("abort", () => failed(signal.reason), { once: true });
    });
    this.told.waiting(sentence);
    const ticking = setInterval(() => this.told.changed(), TICK_MS);
    try {
      await ended;
    } finally {
      clearInterval(ticking);
      this.pause = null;
      this.told.changed();
    }
  }

  /** Finds the culprit of a group by sending each alone; a lone one has failed. */
  async recover(open, error, signal) {
    if (!(error instanceof ApiError)) await ask("/healthz", { signal });
    if (open.length > 1) {
      for (const task of open) await this.send([task], signal);
    } else {
      const here = { message: "It could not be read or sent. Is it still there?", status: 500 };
      for (const task of open) this.fail(task, error instanceof ApiError ? error : here);
    }
  }

  ask(open, signal) {
    const large = open.length === 1 && (open[0].file?.size ?? 0) > this.limits.imageBytes;
    const most = `The file is larger than the limit of ${this.limits.imageBytes / 2 ** 20} MB`;
    if (large) return this.fail(open[0], { message: most, code: "file_too_large" });
    if (open[0].url) return this.askUrls(open, signal);
    return open.length === 1 ? this.askOne(open[0], signal) : this.askMany(open, signal);
  }

  async askOne(task, signal) {
    try {
      this.pass(task, await judgeFile(task, signal));
    } catch (error) {
      if (error.status !== 400 && error.status !== 413) throw error;
      await this.stream([task], signal); // says more of what is wrong with it
    }
  }

  async askMany(open, signal) {
    const small = open.filter((task) => task.file.size <= this.limits.imageBytes);
    for (const task of open) if (!small.includes(task)) await this.ask([task], signal);
    if (small.length === 1) await this.askOne(small[0], signal);
    else if (small.length) await this.stream(small, signal);
  }

  async stream(open, signal) {
    let at = 0; // answers come in the files' order
    for await (const said of judgeMany(open, signal)) {
      if (said.type === "summary") return;
      if (said.type === "error" && said.image === null) throw new ApiError(400, said.error);
      if (said.type === "error") this.fail(open[at++], { message: said.error, code: said.code ?? "" });
      else this.pass(open[at++], said);
    }
  }

  async askUrls(open, signal) {
    const { predictions, summary } = await judgeUrls(open.map((task) => task.url), open[0].policy, signal);
    const unknown = { message: "The service said nothing of it" };
    for (const task of open) {
      const answer = predictions.find((one) => one.url === task.url);
      if (answer) this.pass(task, answer);
      else this.fail(task, summary.error_details?.find((one) => one.url === task.url) ?? unknown);
    }
  }

  pass(task, answer) {
    const { progress: _progress, ...rest } = answer;
    this.finish(task, () => this.told.result(task, rest));
  }

  fail(task, { message, code = "", status = 0 }) {
    this.finish(task, () => this.told.failed(task, { message, code, status }));
  }

  finish(task, tell) {
    task.over = true;
    this.done++;
    tell();
    this.told.changed();
  }
}

// a picture that the service has no memory for is answered 503 too, and would be for ever
const isBusy = ({ status, message }) => status === 429 || (status === 503 && !message.startsWith("Error processing image"));
