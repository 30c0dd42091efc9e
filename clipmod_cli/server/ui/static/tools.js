// The strip above the grid: progress, stop, filters with their counts, order, download, clear.

import { byId, make } from "./dom.js";
import { FILTERS } from "./results.js";
import { icon, STATES } from "./states.js";
import { count, many } from "./words.js";

const EVERY_MS = 100;

export class Tools {
  constructor(results, grid, { runner, clear, again, retry }) {
    Object.assign(this, { results, grid, runner, again, timer: 0, since: 0, begun: 0 });
    byId("filters").replaceChildren(...FILTERS.map((name) => this.chip(name)));
    byId("hurry").addEventListener("click", () => runner().hurry());
    byId("retry").addEventListener("click", retry);
    byId("sort").addEventListener("change", ({ target }) => {
      results.order = target.value;
      grid.restart();
    });
    byId("stop").addEventListener("click", () => (runner().running ? runner().stop() : again()));
    byId("clear").addEventListener("click", clear);
    byId("download").addEventListener("click", () => this.download());
  }

  schedule() {
    this.timer ||= setTimeout(() => this.draw(), EVERY_MS);
  }

  draw() {
    clearTimeout(this.timer);
    this.timer = 0;
    const some = this.results.all.length > 0;
    byId("tools").hidden = !some;
    byId("analyse").classList.toggle("has-results", some || Boolean(this.runner()?.total));
    for (const chip of byId("filters").children) {
      chip.setAttribute("aria-pressed", chip.dataset.name === this.results.filter);
      chip.lastChild.textContent = count(this.results.counts[chip.dataset.name]);
    }
    this.progress(this.runner());
  }

  progress(runner) {
    const some = Boolean(runner?.total || this.results.all.length);
    byId("run").hidden = !some;
    if (!some) return;
    byId("run-text").textContent = this.sentence();
    byId("run-rate").textContent = runner ? this.pace(runner) : "";
    byId("run").classList.toggle("waits", Boolean(runner?.pause));
    byId("bar").hidden = byId("stop").hidden = !runner?.left;
    byId("bar").max = runner?.total || 1;
    byId("bar").value = runner?.done ?? 0;
    byId("stop").textContent = runner?.running ? "Stop" : "Continue";
    byId("hurry").hidden = !runner?.pause;
    byId("retry").hidden = Boolean(runner?.left) || !this.results.open;
  }

  /** Says in words how far it is. */
  sentence() {
    const { running, pause, waitS, done, total, left } = this.runner() ?? {};
    if (pause) return `${pause.sentence} Trying again in ${waitS} s; ${count(done)} of ${count(total)} done.`;
    if (running) return `${count(done)} of ${count(total)} done`;
    if (left) return `Stopped: ${count(left)} of ${count(total)} not judged`;
    const { all, nsfw, review, safe, error } = this.results.counts;
    return `${many(all, "picture", "pictures")}: ${count(nsfw)} NSFW, ${count(review)} to review, ${count(safe)} Safe, `
      + many(error, "error", "errors");
  }

  pace({ running, done }) {
    if (!running) this.since = 0;
    else if (!this.since) Object.assign(this, { since: performance.now(), begun: done });
    const seconds = (performance.now() - this.since) / 1000;
    const pace = (done - this.begun) / seconds;
    return running && seconds > 2 && pace ? `${pace.toFixed(1)} a second` : "";
  }

  chip(name) {
    const words = make("span", { className: "chip-words" }, STATES[name]?.chip ?? "All", " ");
    const chip = make("button", { type: "button", className: name }, STATES[name] ? icon(name) : null, words,
      make("span", { className: "number" }, "0"));
    chip.dataset.name = name;
    chip.addEventListener("click", () => {
      this.results.filter = name;
      this.draw();
      this.grid.restart();
    });
    return chip;
  }

  download() {
    const address = URL.createObjectURL(new Blob(this.results.lines(), { type: "application/jsonl" }));
    const stamp = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
    make("a", { href: address, download: `clipmod-${stamp}.jsonl` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }
}
