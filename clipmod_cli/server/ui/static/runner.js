// The line of what is to be judged: one request after the other, small enough for early answers.

import { ApiError, ask, judgeFile, judgeMany, judgeUrls } from "./api.js";

const GROUP_FILES = 100; // browsers read an answer when the body is sent: small groups answer early
const FIRST_FILES = 12; // and the very first at once
const GROUP_BYTES = 32e6;
const TRIES = 6; // against a service that is busy
const LONGEST_WAIT_S = 20;

export class Runner {
  /** `told` has: result(task, answer), failed(task, sentence), changed(), ended(reason). */
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
    Object.assign(this, { stopper: null, waiting: [], next: 0, total: 0, done: 0, first: true });
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
      if (Boolean(task.url) !== Boolean(head.url) || (group.length && sum > bytes)) break;
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
      if (!open.length) return;
      try {
        await this.ask(open, signal);
        if (open.every((task) => task.over)) return;
        throw new TypeError("the answer ended early");
      } catch (error) {
        if (signal.aborted || error.status === 401) throw error;
        if (isBusy(error) && tries < TRIES) await pause(Math.min(error.retryS || tries, LONGEST_WAIT_S), signal);
        else return this.recover(open.filter((task) => !task.over), error, signal);
      }
    }
  }

  /** Finds the culprit of a group by sending each alone; a lone one has failed. */
  async recover(open, error, signal) {
    if (!(error instanceof ApiError)) await ask("/healthz", { signal });
    if (open.length > 1 && isBusy(error)) throw error; // later, when a person says so
    if (open.length > 1) {
      for (const task of open) await this.send([task], signal);
    } else {
      const sentence = error instanceof ApiError ? error.message : "It could not be read or sent. Is it still there?";
      for (const task of open) this.fail(task, sentence);
    }
  }

  ask(open, signal) {
    const large = open.length === 1 && (open[0].file?.size ?? 0) > this.limits.imageBytes;
    if (large) return this.fail(open[0], `The file is larger than the limit of ${this.limits.imageBytes / 2 ** 20} MB`);
    if (open[0].url) return this.askUrls(open, signal);
    return open.length === 1 ? this.askOne(open[0], signal) : this.askMany(open, signal);
  }

  async askOne(task, signal) {
    this.pass(task, await judgeFile(task.file, task.name, signal));
  }

  async askMany(open, signal) {
    const small = open.filter((task) => task.file.size <= this.limits.imageBytes);
    for (const task of open) if (!small.includes(task)) await this.ask([task], signal);
    if (small.length < 2) return small.length ? this.askOne(small[0], signal) : undefined;
    let at = 0; // answers come in the files' order
    for await (const said of judgeMany(small, signal)) {
      if (said.type === "summary") return undefined;
      if (said.type === "error" && said.image === null) throw new ApiError(400, said.error);
      if (said.type === "error") this.fail(small[at++], said.error);
      else this.pass(small[at++], said);
    }
    return undefined;
  }

  async askUrls(open, signal) {
    const { predictions, summary } = await judgeUrls(open.map((task) => task.url), signal);
    const complaints = summary.errors ?? [];
    for (const task of open) {
      const start = `Error for ${task.url}: `;
      const answer = predictions.find((one) => one.url === task.url);
      const complaint = complaints.find((one) => one.startsWith(start));
      if (answer) this.pass(task, answer);
      else this.fail(task, complaint?.slice(start.length) ?? "The service said nothing of it");
    }
  }

  pass(task, answer) {
    const { progress: _progress, ...rest } = answer;
    this.finish(task, () => this.told.result(task, rest));
  }

  fail(task, sentence) {
    this.finish(task, () => this.told.failed(task, sentence));
  }

  finish(task, tell) {
    task.over = true;
    this.done++;
    tell();
    this.told.changed();
  }
}

const isBusy = (error) => error.status === 429 || error.status === 503;

const pause = (seconds, signal) =>
  new Promise((done, failed) => {
    const timer = setTimeout(done, seconds * 1000);
    signal.addEventListener("abort", () => (clearTimeout(timer), failed(signal.reason)), { once: true });
  });
