// The sharp picture, while a key or a finger is held: asked for at each hold, drawn on a canvas, and gone after.

import { postForPicture } from "./api.js";

export class Hold {
  #canvas;
  #asked = null;
  #report;

  constructor(canvas, report) {
    this.#canvas = canvas;
    this.#report = report;
    // wherever the key or the finger is released
    for (const name of ["blur", "pagehide"]) addEventListener(name, () => this.end());
    document.addEventListener("visibilitychange", () => this.end());
  }

  get isOn() {
    return this.#asked !== null;
  }

  async begin(id, frame, colour) {
    if (this.isOn) return;
    const asked = new AbortController();
    this.#asked = asked;
    try {
      const bitmap = await createImageBitmap(await postForPicture("/api/sharp", { id, frame, colour }, asked.signal));
      if (this.#asked === asked) {
        this.#canvas.width = bitmap.width;
        this.#canvas.height = bitmap.height;
        this.#canvas.getContext("2d").drawImage(bitmap, 0, 0);
        this.#canvas.hidden = false;
      }
      bitmap.close();
    } catch (error) {
      if (error.name !== "AbortError") this.#report(error);
    }
  }

  end() {
    this.#asked?.abort();
    this.#asked = null;
    this.#canvas.hidden = true;
    this.#canvas.width = this.#canvas.height = 1; // drops the pixels
  }

  // Lets an element be held by a finger or the mouse; `what` gives the arguments of `begin`, or null.
  on(element, what) {
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("pointerdown", (event) => {
      const arguments_ = event.button === 0 ? what(event) : null;
      if (!arguments_) return;
      element.setPointerCapture(event.pointerId);
      this.begin(...arguments_);
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      element.addEventListener(name, () => this.end());
    }
  }
}
