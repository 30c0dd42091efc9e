// Many at once: pick those that are the same, then decide on all that are picked.

import { get, post } from "./api.js";
import { confirmMany } from "./dialogs.js";
import { Hold } from "./hold.js";

const at = (id) => document.getElementById(id);
const HOLD_MS = 350;

export class Grid {
  #items = [];
  #picked = new Set();
  #opened = 0;
  #colour = false;
  #mustType = 20;
  #report;
  #hold;

  constructor(report) {
    this.#report = report;
    this.#hold = new Hold(at("grid-sharp"), report);
    at("pick-all").addEventListener("click", () => this.pickAll());
    at("grid-colour").addEventListener("click", () => this.toggleColour());
    at("tiles").addEventListener("contextmenu", (event) => event.preventDefault());
  }

  get isOpen() {
    return !at("many").hidden;
  }

  get focused() {
    const tile = document.activeElement?.closest?.(".tile") ?? document.querySelector(".tile:hover");
    return tile ? Number(tile.dataset.id) : null;
  }

  itemOf(id) {
    return this.#items.find((item) => item.id === id);
  }

  async open(mustType) {
    this.#mustType = mustType;
    this.#items = (await get("/api/grid")).items;
    this.#picked.clear();
    this.#setColour(false);
    this.#opened = performance.now();
    at("tiles").replaceChildren(...this.#items.map((item) => this.#tile(item)));
    this.#tell();
    at("tiles").firstElementChild?.focus();
    return this.#items.length;
  }

  close() {
    this.#hold.end();
    at("tiles").replaceChildren();
    this.#items = [];
  }

  // Decide on what is picked; gives the new state, or null if nothing was decided.
  async decide(label, category, text) {
    const ids = [...this.#picked];
    if (!ids.length) return null;
    const typed = ids.length > this.#mustType ? await confirmMany(ids.length, text) : "";
    if (typed === null) return null;
    const seconds = (performance.now() - this.#opened) / 1000;
    return post("/api/grid", { ids, label, category, seconds, typed });
  }

  pickAll() {
    const all = this.#picked.size < this.#items.length;
    this.#picked = new Set(all ? this.#items.map((item) => item.id) : []);
    this.#tell();
  }

  toggleColour() {
    this.#setColour(!this.#colour);
    for (const picture of at("tiles").querySelectorAll("img")) picture.src = this.#address(picture.dataset.id);
  }

  // A picture that must not be seen any more, not even blurred.
  remove(id) {
    at("tiles").querySelector(`[data-id="${id}"]`)?.remove();
  }

  beginHold() {
    const id = this.focused;
    if (id !== null) this.#hold.begin(id, 0, this.#colour);
  }

  endHold() {
    this.#hold.end();
  }

  move(key) {
    const tiles = [...at("tiles").children];
    const columns = tiles.filter((tile) => tile.offsetTop === tiles[0]?.offsetTop).length;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
    const now = tiles.indexOf(document.activeElement);
    tiles[Math.min(Math.max(now + by, 0), tiles.length - 1)]?.focus();
  }

  toggle(id) {
    if (!this.#picked.delete(id)) this.#picked.add(id);
    this.#tell();
  }

  #setColour(on) {
    this.#colour = on;
    at("grid-colour").setAttribute("aria-pressed", on);
  }

  #address(id) {
    return `/api/blurred/${id}/0?colour=${this.#colour}`;
  }

  #tile(item) {
    const tile = document.createElement("button");
    tile.type = "button";
    tile.className = "tile";
    tile.dataset.id = item.id;
    const picture = document.createElement("img");
    picture.alt = "";
    picture.dataset.id = item.id;
    picture.draggable = false;
    picture.src = this.#address(item.id);
    picture.addEventListener("error", () => picture.remove());
    const name = document.createElement("span");
    name.textContent = item.name.split("/").at(-1);
    tile.append(picture, name);
    tile.title = item.name;
    tile.setAttribute("aria-label", item.name);
    this.#touch(tile, item.id);
    return tile;
  }

  // A tap picks, a long press shows it sharp.
  #touch(tile, id) {
    let timer = 0;
    let held = false;
    tile.addEventListener("pointerdown", () => {
      held = false;
      timer = setTimeout(() => {
        held = true;
        this.#hold.begin(id, 0, this.#colour);
      }, HOLD_MS);
    });
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
      tile.addEventListener(name, () => {
        clearTimeout(timer);
        if (held) this.#hold.end();
      });
    }
    tile.addEventListener("click", () => {
      if (!held) this.toggle(id);
      held = false;
    });
  }

  #tell() {
    for (const tile of at("tiles").children) {
      tile.setAttribute("aria-pressed", this.#picked.has(Number(tile.dataset.id)));
    }
    const count = this.#picked.size;
    at("picked").textContent = `${count} of ${this.#items.length} picked.`;
    for (const button of at("grid-bar").querySelectorAll("[data-label]")) button.disabled = !count;
  }
}
