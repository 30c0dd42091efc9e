// The near copies of what is shown, small and blurred, beside each other: a decision is on all that can be seen.

const at = (id) => document.getElementById(id);
const WORDS = { nsfw: "NSFW", review: "Review", error: "Not judged", safe: "Safe", undecided: "Undecided" };

export class NearCopies {
  #items = [];
  #drawn = new Set();
  #looked = new Set();
  #view;
  viewed = null; // the item that is shown large
  ready = Promise.resolve(); // once each small picture came, or failed

  constructor(view) {
    this.#view = view;
  }

  // Ids of the near copies of which a small picture came.
  get seen() {
    return this.#items.slice(1).map((item) => item.id).filter((id) => this.#drawn.has(id));
  }

  get looked() {
    return [...this.#looked];
  }

  // Those that must be looked at before all are called safe.
  get #unlooked() {
    const [first, ...others] = this.#items;
    return others.filter((item) => (
      item.outcome !== first.outcome && this.#drawn.has(item.id) && !this.#looked.has(item.id)
    ));
  }

  // Shows an item with its near copies.
  set(item, near) {
    this.viewed = item;
    this.#items = near.length ? [item, ...near] : [];
    this.#drawn.clear();
    this.#looked.clear();
    at("near").hidden = at("near-text").hidden = !near.length;
    const buttons = this.#items.map((one) => this.#button(one));
    at("near").replaceChildren(...buttons);
    this.#tell();
    this.ready = Promise.all(buttons.map((button) => this.#draw(button))).then(() => this.#tell());
  }

  clear() {
    this.set(null, []);
  }

  // Called when an item was shown large.
  note(item) {
    this.#looked.add(item.id);
    this.#tell();
  }

  next() {
    if (!this.#items.length) return;
    const now = this.#items.indexOf(this.viewed);
    this.#go(this.#items[(now + 1) % this.#items.length]);
  }

  // Shows one that must be looked at before all are called safe; false if there is none.
  showUnlooked() {
    const [item] = this.#unlooked;
    if (item) this.#go(item);
    return item !== undefined;
  }

  #go(item) {
    this.viewed = item;
    this.#tell();
    this.#view(item);
  }

  #button(item) {
    const button = document.createElement("button");
    const text = document.createElement("span");
    const score = item.score === null ? "" : ` ${item.score.toFixed(2)}`;
    text.textContent = `${WORDS[item.outcome]}${score}`;
    button.type = "button";
    button.className = "near";
    button.dataset.id = item.id;
    button.title = item.name;
    button.setAttribute("aria-label", `${text.textContent}: ${item.name}`);
    button.append(text);
    button.addEventListener("click", () => this.#go(item));
    return button;
  }

  #draw(button) {
    const picture = document.createElement("img");
    picture.alt = "";
    picture.draggable = false;
    button.prepend(picture);
    return new Promise((resolve) => {
      picture.addEventListener("load", () => {
        this.#drawn.add(Number(button.dataset.id));
        resolve();
      });
      picture.addEventListener("error", () => {
        picture.remove();
        button.classList.add("unseen");
        button.title = `No picture, so it is not decided here: ${button.title}`;
        resolve();
      });
      picture.src = `/api/blurred/${button.dataset.id}/0`;
    });
  }

  #tell() {
    if (!this.#items.length) return;
    const unlooked = new Set(this.#unlooked.map((item) => item.id));
    for (const button of at("near").children) {
      const id = Number(button.dataset.id);
      button.classList.toggle("differs", unlooked.has(id));
      if (id === this.viewed.id) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    const count = this.seen.length;
    at("near-count").textContent = `${count} near ${count === 1 ? "copy" : "copies"}: the decision is on all ${count + 1}.`;
    at("near-differs").textContent = unlooked.size
      ? `The machine judged ${unlooked.size} otherwise: before Safe, look at ${unlooked.size === 1 ? "it" : "them"}.`
      : "";
  }
}
