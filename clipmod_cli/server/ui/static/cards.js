// The grid: one page of results as cards, kept in step without moving what has the focus.

import { byId, make } from "./dom.js";
import { fault } from "./explain.js";
import { badges, reasons, scoreBar } from "./marks.js";
import { addressOf, covered, release } from "./pictures.js";
import { stateOf } from "./states.js";

const PAGE = 120; // cards at once: what a phone draws without stutter
const EVERY_MS = 150; // between drawings while results stream in

export class Grid {
  constructor(results, { open, labels, blurSafe }) {
    Object.assign(this, { results, open, labels, blurSafe, page: 0, cards: new Map(), timer: 0 });
    byId("back").addEventListener("click", () => this.turn(-1));
    byId("on").addEventListener("click", () => this.turn(1));
  }

  /** Draws soon, however often it is asked to. */
  schedule() {
    this.timer ||= setTimeout(() => this.draw(), EVERY_MS);
  }

  draw() {
    clearTimeout(this.timer);
    this.timer = 0;
    const shown = this.results.shown();
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    this.page = Math.min(this.page, pages - 1);
    this.show(shown.slice(this.page * PAGE, (this.page + 1) * PAGE));
    byId("empty").hidden = !this.results.all.length || shown.length > 0;
    byId("pages").hidden = pages === 1;
    byId("page-text").textContent = `Page ${this.page + 1} of ${pages}`;
    byId("back").disabled = this.page === 0;
    byId("on").disabled = this.page === pages - 1;
  }

  /** Goes to the first page: what is shown has changed altogether. */
  restart() {
    this.page = 0;
    this.draw();
  }

  turn(step) {
    this.page += step;
    this.draw();
    byId("tools").scrollIntoView();
  }

  show(wanted) {
    const grid = byId("grid");
    const ids = new Set(wanted.map((result) => result.id));
    for (const [id, card] of this.cards) if (!ids.has(id)) this.drop(id, card);
    wanted.forEach((result, i) => {
      if (!this.cards.has(result.id)) this.cards.set(result.id, this.cardOf(result));
      const { element } = this.cards.get(result.id);
      if (grid.children[i] !== element) grid.insertBefore(element, grid.children[i] ?? null);
    });
  }

  drop(id, { element, address }) {
    element.remove();
    release(address);
    this.cards.delete(id);
  }

  clear() {
    for (const [id, card] of this.cards) this.drop(id, card);
    this.restart();
  }

  cardOf(result) {
    const address = addressOf(result);
    const more = make("button", { type: "button", className: "quiet more" }, "Details",
      make("span", { className: "unseen" }, ` of ${result.name}`));
    more.addEventListener("click", () => this.open(result));
    const name = make("h3", { className: "name", title: result.name }, result.name);
    const body = make("div", { className: "card-body" }, badges(result), name, ...this.told(result), more);
    const top = covered(result, address, { className: "thumb", blurSafe: this.blurSafe });
    return { address, element: make("li", { className: `card ${stateOf(result)}` }, top, body) };
  }

  told({ answer, error }) {
    if (error) return [make("p", { className: "error-text" }, fault(error)[0])];
    const category = this.labels()[answer.ensemble_category] ?? answer.ensemble_category;
    return [...reasons(answer), make("p", { className: "dim" }, category), scoreBar(answer)];
  }

  /** Has all cards blurred or not, after the setting or one of them has changed. */
  mark() {
    for (const { element } of this.cards.values()) element.firstChild.dispatchEvent(new Event("mark"));
  }
}
