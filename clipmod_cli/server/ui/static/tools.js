// The strip above the grid: progress, stop, filters with their counts, order, download, clear.

import { byId, make } from "./dom.js";
import { FILTERS } from "./results.js";
import { count, many } from "./words.js";

const EVERY_MS = 100;

export class Tools {
  constructor(results, grid, { runner, clear, again }) {
    Object.assign(this, { results, grid, runner, again, timer: 0, since: 0, begun: 0 });
    byId("filters").replaceChildren(...Object.keys(FILTERS).map((name) => this.chip(name)));
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
    byId("tools").hidden = !this.results.all.length;
    for (const chip of byId("filters").children) {
      chip.setAttribute("aria-pressed", chip.dataset.name === this.results.filter);
      chip.lastChild.textContent = count(this.results.counts[chip.dataset.name]);
    }
    this.progress(this.runner());
  }

  progress(runner) {
    byId("run").hidden = !runner?.total;
    if (!runner?.total) return;
    byId("bar").max = runner.total;
    byId("bar").value = runner.done;
    byId("run-text").textContent = this.sentence();
    byId("run-rate").textContent = this.pace(runner);
    byId("stop").hidden = !runner.left;
    byId("stop").textContent = runner.running ? "Stop" : "Continue";
  }

  /** Says in words how far it is. */
  sentence() {
    const { running, done, total, left } = this.runner();
    if (running) return `${count(done)} of ${count(total)} analysed`;
    if (left) return `Stopped: ${count(left)} of ${count(total)} not analysed`;
    const { nsfw, review, errors } = this.results.counts;
    return `${many(total, "picture", "pictures")} analysed. In all: ${count(nsfw)} NSFW, ${count(review)} to review, `
      + many(errors, "error", "errors");
  }

  pace({ running, done }) {
    if (!running) this.since = 0;
    else if (!this.since) Object.assign(this, { since: performance.now(), begun: done });
    const seconds = (performance.now() - this.since) / 1000;
    return running && seconds > 2 ? `${((done - this.begun) / seconds).toFixed(1)} a second` : "";
  }

  chip(name) {
    const chip = make("button", { type: "button" }, `${FILTERS[name].label} `, make("span", { className: "number" }, "0"));
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
